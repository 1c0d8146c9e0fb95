//! The schema compiler's output in the tree must equal its output for today's schemas. Skipped if
//! the compiler is not installed.

use std::path::Path;
use std::process::Command;

#[test]
fn the_compiled_schemas_are_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> = std::fs::read_dir(here.join("schema"))
        .expect("schemas")
        .map(|entry| entry.expect("a schema").file_name())
        .collect();
    names.sort();
    let compiler = Command::new("capnp")
        .arg("compile")
        .arg("-o-")
        .args(&names)
        .current_dir(here.join("schema"))
        .output();
    let Ok(compiled) = compiler else {
        eprintln!("no capnp here: the fingerprint of the schemas, which the build compares, has to do");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let kept = std::fs::read(here.join("schema.request")).expect("compiled schemas");
    // Another version of the compiler may lay them out otherwise.
    assert_eq!(nodes(&compiled.stdout), nodes(&kept), "run `./justw schemas`");
}

/// The text of all definitions.
fn nodes(request: &[u8]) -> Vec<String> {
    use protocols::capnp::message::ReaderOptions;
    use protocols::capnp::{schema_capnp::code_generator_request, serialize};
    let message = serialize::read_message(request, ReaderOptions::new()).expect("a compiler's request");
    let request = message.get_root::<code_generator_request::Reader<'_>>().expect("a request");
    let nodes = request.get_nodes().expect("nodes").iter().map(|node| {
        let value: protocols::capnp::dynamic_value::Reader<'_> = node.into();
        format!("{value:?}")
    });
    nodes.collect()
}
