//! Pictures show every process, group and device.

use std::fs;
use std::path::Path;

use describe::{System, draw};

fn load(name: &str) -> System {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    describe::load(name, &fs::read(path).expect("a description"), None).expect("a right description")
}

#[test]
fn a_picture_has_everything() {
    for name in ["five.toml", "sixty.toml", "all.toml"] {
        let system = load(name);
        let svg = draw::svg(&system);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
        let processes = system.processes.iter().map(|process| &process.name);
        let names = processes.chain(system.groups.iter().map(|group| &group.name));
        for name in names.chain(system.devices.iter().map(|device| &device.name)) {
            assert!(svg.contains(name.as_str()), "{name} is not in the picture");
        }
        if let Some(directory) = std::env::var_os("DRAWN") {
            let path = Path::new(&directory).join(name).with_extension("svg");
            fs::write(path, svg).expect("a picture that can be written");
        }
    }
}

#[test]
fn the_book_has_todays_picture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/systems-five.svg");
    let svg = draw::svg(&load("five.toml"));
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &svg).expect("a picture that can be written");
    }
    let kept = fs::read_to_string(&path).expect("the book's picture");
    assert!(kept == svg, "docs/src/systems-five.svg: UPDATE=1 writes it again");
}
