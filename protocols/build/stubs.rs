//! Clients and servers of protocols, as Rust text.
//!
//! A schema file describes a protocol if it has the structs `Request` and `Answer` and the enum
//! `Refusal`:
//!
//! - each member of `Request`'s union is a method: a group of its arguments, or Void if it has
//!   none. A `Request` without union is a single method, with the name of its answer;
//! - `Answer` has a union with a member of the same name for each, a group or Void, and
//!   `refused :Refusal`;
//! - `Refusal` has `badRequest`, the answer to malformed messages.
//!
//! A schema file without `Request` describes a file: it has a struct with the schema's own name,
//! with which that file begins.

use std::error::Error;
use std::fmt::Write;

use capnp::message::ReaderOptions;
use capnp::schema_capnp::{code_generator_request, field, node, type_};
use capnp::serialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Nodes<'a> = capnp::struct_list::Reader<'a, node::Owned>;
type Structure<'a> = node::struct_::Reader<'a>;

/// A method: its name in Rust, what the schema says about it, and whether there are arguments and
/// results.
struct Method {
    snake: String,
    camel: String,
    doc: String,
    asks: bool,
    answers: bool,
    /// Whether capabilities go with the request, with the answer.
    gives: bool,
    returns: bool,
    /// Words of the request and of the answer, where these are known.
    request: Option<u32>,
    answer: Option<u32>,
}

struct Protocol {
    name: String,
    request_id: u64,
    answer_id: u64,
    has_union: bool,
    /// Words of a refusal.
    least: u32,
    methods: Vec<Method>,
    caps: Vec<CapField>,
}

/// A field of type Capability: the module of the struct that has it, that struct's id, the field's
/// name and which of the struct's pointers it is.
struct CapField {
    path: String,
    id: u64,
    name: String,
    number: u32,
}

/// The text for all schema files of a compiler's request.
pub fn generate(request: &[u8]) -> Result<String> {
    let message = serialize::read_message(request, ReaderOptions::new())?;
    let request = message.get_root::<code_generator_request::Reader<'_>>()?;
    let mut text = String::from("// Made from the schemas by build/stubs.rs.\n");
    let mut roots = Vec::new();
    let mut caps = Vec::new();
    for file in request.get_requested_files()? {
        let name = file.get_filename()?.to_str()?.trim_end_matches(".capnp").replace('-', "_");
        if nested(request.get_nodes()?, file.get_id(), "Request").is_err() {
            write_file(request, file.get_id(), &name, &mut text)?;
            roots.push(format!("{name}::ROOTS[0]"));
            continue;
        }
        let protocol = read(request, file.get_id(), name)?;
        protocol.write(&mut text)?;
        caps.extend(protocol.caps.iter().map(|field| field.entry(&protocol.name)));
        roots.extend([0, 1].map(|root| format!("{}::ROOTS[{root}]", protocol.name)));
    }
    writeln!(text, "/// What a message of any protocol can begin with.")?;
    writeln!(text, "pub const ROOTS: &[crate::Root] = &[{}];", roots.join(", "))?;
    writeln!(text, "/// The fields of all protocols that point to capabilities.")?;
    writeln!(text, "pub const CAP_FIELDS: &[crate::CapField] = &[{}];", caps.join(", "))?;
    Ok(text)
}

/// Writes the module of a schema that describes a file.
fn write_file(
    request: code_generator_request::Reader<'_>,
    file: u64,
    name: &str,
    text: &mut String,
) -> Result<()> {
    let root = capitalised(name);
    let id = nested(request.get_nodes()?, file, &root)?;
    writeln!(
        text,
        "/// The file of `schema/{name}.capnp`.\n\
         pub mod {name} {{\n\
         pub use crate::{name}_capnp::*;\n\
         /// The label that a message with its content would have.\n\
         pub const LABEL: u32 = crate::label_of({id:#x});\n\
         /// What it begins with.\n\
         pub const ROOTS: [crate::Root; 1] = [crate::Root {{ protocol: \"{name}\", name: \"{root}\", \
         label: LABEL, read: |root| Ok(root.get_as::<{name}::Reader<'_>>()?.into()) }}];\n}}"
    )?;
    Ok(())
}

fn capitalised(name: &str) -> String {
    let mut name = name.to_owned();
    name[..1].make_ascii_uppercase();
    name
}

fn by_id(nodes: Nodes<'_>, id: u64) -> Result<node::Reader<'_>> {
    nodes.iter().find(|node| node.get_id() == id).ok_or_else(|| "a node is missing".into())
}

fn structure(node: node::Reader<'_>) -> Result<Structure<'_>> {
    match node.which()? {
        node::Struct(structure) => Ok(structure),
        _ => Err("Request and Answer are structs".into()),
    }
}

fn nested(nodes: Nodes<'_>, file: u64, wanted: &str) -> Result<u64> {
    for nested in by_id(nodes, file)?.get_nested_nodes()? {
        if nested.get_name()? == wanted {
            return Ok(nested.get_id());
        }
    }
    Err(format!("a protocol has no {wanted}").into())
}

fn in_union<'a>(structure: Structure<'a>) -> Result<Vec<(usize, field::Reader<'a>)>> {
    let fields = structure.get_fields()?.iter().enumerate();
    Ok(fields.filter(|(_, field)| field.get_discriminant_value() != field::NO_DISCRIMINANT).collect())
}

fn read(request: code_generator_request::Reader<'_>, file: u64, name: String) -> Result<Protocol> {
    let nodes = request.get_nodes()?;
    let (request_id, answer_id) = (nested(nodes, file, "Request")?, nested(nodes, file, "Answer")?);
    nested(nodes, file, "Refusal")?;
    let (asked, answer) = (structure(by_id(nodes, request_id)?)?, structure(by_id(nodes, answer_id)?)?);
    let mut answers = Vec::new();
    for (_, field) in in_union(answer)? {
        let name = field.get_name()?.to_string()?;
        if name != "refused" {
            answers.push((name, field));
        }
    }
    let members = in_union(asked)?;
    let (has_union, least) = (!members.is_empty(), size(answer));
    let mut caps = Vec::new();
    for nested in by_id(nodes, file)?.get_nested_nodes()? {
        cap_fields(nodes, nested.get_id(), &snake(nested.get_name()?.to_str()?), &mut caps)?;
    }
    let mut protocol = Protocol { name, request_id, answer_id, has_union, least, methods: Vec::new(), caps };
    if members.is_empty() {
        let [(name, field)] = answers.as_slice() else {
            return Err(format!("{}: a Request without union has one answer", protocol.name).into());
        };
        let doc = doc_of(request, request_id, None)?;
        let words = (!has_pointers(nodes, asked)?).then(|| size(asked));
        let asked = Asked { asks: true, gives: carries(nodes, asked, &mut Vec::new())?, words };
        protocol.methods.push(method(nodes, name, doc, asked, *field, answer)?);
        return Ok(protocol);
    }
    for (index, field) in members {
        let name = field.get_name()?.to_string()?;
        let other = answers.iter().find(|(other, _)| *other == name);
        let (_, other) = other.ok_or_else(|| format!("{}: nothing answers {name}", protocol.name))?;
        let doc = doc_of(request, request_id, Some(index))?;
        let arguments = group(nodes, field)?;
        let gives = arguments.map_or(Ok(false), |arguments| carries(nodes, arguments, &mut Vec::new()))?;
        let asked = Asked { asks: arguments.is_some(), gives, words: words(nodes, asked, arguments)? };
        protocol.methods.push(method(nodes, &name, doc, asked, *other, answer)?);
    }
    Ok(protocol)
}

/// What is known of a method's request.
struct Asked {
    asks: bool,
    gives: bool,
    words: Option<u32>,
}

fn method(
    nodes: Nodes<'_>,
    name: &str,
    doc: String,
    asked: Asked,
    answered: field::Reader<'_>,
    answer: Structure<'_>,
) -> Result<Method> {
    let results = group(nodes, answered)?;
    let camel = capitalised(name);
    let answer = words(nodes, answer, results)?;
    let returns = results.map_or(Ok(false), |results| carries(nodes, results, &mut Vec::new()))?;
    let Asked { asks, gives, words: request } = asked;
    let snake = snake(name);
    Ok(Method { snake, camel, doc, asks, answers: results.is_some(), gives, returns, request, answer })
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
        snake
    })
}

fn is_capability(of: type_::Reader<'_>) -> Result<bool> {
    let type_::AnyPointer(any) = of.which()? else { return Ok(false) };
    let type_::any_pointer::Unconstrained(any) = any.which()? else { return Ok(false) };
    Ok(matches!(any.which()?, type_::any_pointer::unconstrained::Capability(())))
}

/// Returns whether a struct can have capabilities, itself or in the structs to which it points.
fn carries(nodes: Nodes<'_>, of: Structure<'_>, seen: &mut Vec<u64>) -> Result<bool> {
    for field in of.get_fields()? {
        let carries = match field.which()? {
            field::Group(group) => carries(nodes, structure(by_id(nodes, group.get_type_id())?)?, seen)?,
            field::Slot(slot) => type_carries(nodes, slot.get_type()?, seen)?,
        };
        if carries {
            return Ok(true);
        }
    }
    Ok(false)
}

fn type_carries(nodes: Nodes<'_>, of: type_::Reader<'_>, seen: &mut Vec<u64>) -> Result<bool> {
    match of.which()? {
        type_::Struct(of) if !seen.contains(&of.get_type_id()) => {
            seen.push(of.get_type_id());
            carries(nodes, structure(by_id(nodes, of.get_type_id())?)?, seen)
        }
        type_::List(list) => type_carries(nodes, list.get_element_type()?, seen),
        _ => is_capability(of),
    }
}

/// The fields of type Capability in a struct, in its groups, and in the structs that are defined in
/// it.
fn cap_fields(nodes: Nodes<'_>, id: u64, path: &str, found: &mut Vec<CapField>) -> Result<()> {
    let node = by_id(nodes, id)?;
    let node::Struct(structure) = node.which()? else { return Ok(()) };
    for field in structure.get_fields()? {
        let name = field.get_name()?.to_string()?;
        match field.which()? {
            field::Group(group) => {
                cap_fields(nodes, group.get_type_id(), &format!("{path}::{}", snake(&name)), found)?;
            }
            field::Slot(slot) if is_capability(slot.get_type()?)? => {
                found.push(CapField { path: path.to_owned(), id, name, number: slot.get_offset() });
            }
            field::Slot(_) => {}
        }
    }
    for nested in node.get_nested_nodes()? {
        cap_fields(
            nodes,
            nested.get_id(),
            &format!("{path}::{}", snake(nested.get_name()?.to_str()?)),
            found,
        )?;
    }
    Ok(())
}

impl CapField {
    /// Its functions.
    fn write(&self, text: &mut String) -> Result<()> {
        let CapField { path, name, number, .. } = self;
        let snake = snake(name);
        writeln!(
            text,
            "impl {path}::Reader<'_> {{\n\
             /// Which of the capabilities that came along `{name}` is, by its place.\n\
             pub fn granted_{snake}(self) -> Option<u32> {{ crate::capability::of_field(self, {number}) }}\n}}\n\
             impl {path}::Builder<'_> {{\n\
             /// Gives a capability along as `{name}`.\n\
             pub fn grant_{snake}<G>(&mut self, given: &mut Given<G>, grant: G) -> Result<(), crate::Full> {{\n\
             given.point(self.reborrow_as_reader(), {number}, grant)\n}}\n}}"
        )?;
        Ok(())
    }

    /// Writes the entry by which a printer of messages finds the schema.
    fn entry(&self, protocol: &str) -> String {
        let CapField { path, id, name, .. } = self;
        format!(
            "crate::CapField {{ id: {id:#x}, name: \"{name}\", place: \
             |of| of.downcast::<{protocol}::{path}::Owned>().granted_{}() }}",
            snake(name)
        )
    }
}

/// Returns the group that a union's member is; `None` if the member is Void.
fn group<'a>(nodes: Nodes<'a>, field: field::Reader<'a>) -> Result<Option<Structure<'a>>> {
    match field.which()? {
        field::Group(group) => structure(by_id(nodes, group.get_type_id())?).map(Some),
        field::Slot(slot) => match slot.get_type()?.which()? {
            type_::Void(()) => Ok(None),
            _ => Err(format!("{} is neither a group nor Void", field.get_name()?.to_str()?).into()),
        },
    }
}

/// Words of a message with this root, whose only content are these members of it; `None` where that
/// depends.
fn words(nodes: Nodes<'_>, root: Structure<'_>, members: Option<Structure<'_>>) -> Result<Option<u32>> {
    let depends = members.map_or(Ok(false), |members| has_pointers(nodes, members))?;
    Ok((!depends).then(|| size(root)))
}

fn size(root: Structure<'_>) -> u32 {
    1 + u32::from(root.get_data_word_count()) + u32::from(root.get_pointer_count())
}

fn has_pointers(nodes: Nodes<'_>, members: Structure<'_>) -> Result<bool> {
    for field in members.get_fields()? {
        let pointer = match field.which()? {
            field::Group(group) => has_pointers(nodes, structure(by_id(nodes, group.get_type_id())?)?)?,
            field::Slot(slot) => matches!(
                slot.get_type()?.which()?,
                type_::Text(())
                    | type_::Data(())
                    | type_::List(_)
                    | type_::Struct(_)
                    | type_::Interface(_)
                    | type_::AnyPointer(_)
            ),
        };
        if pointer {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the schema says about a node, or a member of it.
fn doc_of(request: code_generator_request::Reader<'_>, id: u64, member: Option<usize>) -> Result<String> {
    for info in request.get_source_info()? {
        if info.get_id() != id {
            continue;
        }
        return Ok(match member {
            None => info.get_doc_comment()?.to_string()?,
            Some(member) => info.get_members()?.get(member as u32).get_doc_comment()?.to_string()?,
        });
    }
    Ok(String::new())
}

impl Protocol {
    fn write(&self, text: &mut String) -> Result<()> {
        let Protocol { name, request_id, answer_id, .. } = self;
        writeln!(
            text,
            "/// The protocol of `schema/{name}.capnp`.\n\
             pub mod {name} {{\n\
             pub use crate::{name}_capnp::*;\n\
             #[allow(unused_imports)]\n\
             use crate::{{Failure, Given, Transport, compose, compose_giving, compose_plain, label_of, open}};\n\
             /// Labels of its messages.\n\
             pub const LABEL: u32 = label_of({request_id:#x});\n\
             pub const ANSWER: u32 = label_of({answer_id:#x});\n\
             /// What its messages begin with.\n\
             pub const ROOTS: [crate::Root; 2] = [\n\
             crate::Root {{ protocol: \"{name}\", name: \"Request\", label: LABEL, read: \
             |root| Ok(root.get_as::<request::Reader<'_>>()?.into()) }},\n\
             crate::Root {{ protocol: \"{name}\", name: \"Answer\", label: ANSWER, read: \
             |root| Ok(root.get_as::<answer::Reader<'_>>()?.into()) }},\n];\n\
             impl From<capnp::Error> for Refusal {{\n\
             fn from(_: capnp::Error) -> Refusal {{ Refusal::BadRequest }}\n}}\n\
             impl From<capnp::NotInSchema> for Refusal {{\n\
             fn from(_: capnp::NotInSchema) -> Refusal {{ Refusal::BadRequest }}\n}}\n\
             impl From<crate::Full> for Refusal {{\n\
             fn from(_: crate::Full) -> Refusal {{ Refusal::BadRequest }}\n}}"
        )?;
        self.caps.iter().try_for_each(|field| field.write(text))?;
        self.client(text)?;
        self.server(text)?;
        writeln!(text, "}}")?;
        Ok(())
    }

    fn client(&self, text: &mut String) -> Result<()> {
        writeln!(
            text,
            "/// Whoever asks.\n#[derive(Clone, Copy, Debug)]\npub struct Client<T>(pub T);\n\
             impl<T: Transport> Client<T> {{"
        )?;
        self.methods.iter().try_for_each(|method| self.ask(text, method))?;
        writeln!(text, "}}")?;
        Ok(())
    }

    /// A client's side of a method.
    fn ask(&self, text: &mut String, method: &Method) -> Result<()> {
        let Method { snake, camel, request, gives, .. } = method;
        let built = if self.has_union {
            format!("request::{snake}::Builder<'_>")
        } else {
            "request::Builder<'_>".into()
        };
        let fill = match (method.asks, gives) {
            (false, _) => String::new(),
            (true, false) => format!("fill: impl FnOnce({built}), "),
            (true, true) => {
                format!("fill: impl FnOnce({built}, &mut Given<T::Grant>) -> Result<(), crate::Full>, ")
            }
        };
        let set = match (self.has_union, method.asks) {
            (false, _) => "fill(request".to_owned(),
            (true, true) => format!("fill(request.init_{snake}()"),
            (true, false) => format!("{{ let mut request = request; request.set_{snake}(()); }}"),
        };
        let (read, result, got) = match (method.answers, method.returns) {
            (false, _) => (String::new(), "()", format!("{camel}(()) => Ok(())")),
            (true, false) => {
                let read = format!("read: impl FnOnce(answer::{snake}::Reader<'_>) -> capnp::Result<R>");
                (read, "R", format!("{camel}(results) => Ok(read(results)?)"))
            }
            (true, true) => {
                let read = format!(
                    "read: impl FnOnce(answer::{snake}::Reader<'_>, &mut T::Caps) -> capnp::Result<R>"
                );
                (read, "R", format!("{camel}(results) => Ok(read(results, caps)?)"))
            }
        };
        let generic = if method.answers { "<R>" } else { "" };
        let caps = if method.returns { "caps" } else { "_" };
        let others = if self.methods.len() > 1 { "_ => Err(Failure::Malformed),\n" } else { "" };
        let words = capacity(*request);
        docs(text, &method.doc)?;
        writeln!(
            text,
            "pub fn {snake}{generic}(&self, {fill}{read}) -> Result<{result}, Failure<Refusal, T::Error>> {{\n\
             let call = |message: &[u8], grants: &[T::Grant]| self.0.call(LABEL, message, grants, \
             |label, came: &[u8], {caps}: &mut T::Caps| {{\n\
             if label != ANSWER {{ return Err(Failure::Malformed); }}\n\
             let came = open(came);\n\
             match came.get_root::<answer::Reader<'_>>()?.which()? {{\n\
             answer::{got},\n\
             answer::Refused(refusal) => Err(Failure::Refused(refusal?)),\n\
             {others}}}\n}});"
        )?;
        if *gives {
            writeln!(
                text,
                "match compose_giving::<request::Owned, T::Grant, {words}, _, _, _>(|request, given| {set}, given), \
                 call) {{\n\
                 Ok(done) => done.map_err(Failure::Transport)?,\n\
                 Err((crate::Full, _)) => Err(Failure::Malformed),\n}}\n}}"
            )?;
        } else {
            let end = if method.asks { ")" } else { "" };
            writeln!(
                text,
                "compose_plain::<request::Owned, {words}, _>(|request| {set}{end}, |message| call(message, &[]))\
                 .map_err(Failure::Transport)?\n}}"
            )?;
        }
        Ok(())
    }

    /// Returns whether any answer of the method gives capabilities.
    fn returns(&self) -> bool {
        self.methods.iter().any(|method| method.returns)
    }

    fn server(&self, text: &mut String) -> Result<()> {
        writeln!(text, "/// Whoever answers callers of type `F`.\npub trait Server<F: ?Sized> {{")?;
        if self.returns() {
            writeln!(text, "/// How a capability is given: what the kernel is told.\ntype Grant;")?;
        }
        for method in &self.methods {
            let Method { snake, .. } = method;
            let asked = match (method.asks, self.has_union) {
                (false, _) => String::new(),
                (true, true) => format!(", asked: request::{snake}::Reader<'_>"),
                (true, false) => ", asked: request::Reader<'_>".into(),
            };
            let mut answer = String::new();
            if method.answers {
                write!(answer, ", answer: answer::{snake}::Builder<'_>")?;
            }
            if method.returns {
                answer += ", given: &mut Given<Self::Grant>";
            }
            docs(text, &method.doc)?;
            writeln!(text, "fn {snake}(&mut self, from: &F{asked}{answer}) -> Result<(), Refusal>;")?;
        }
        writeln!(
            text,
            "}}\n/// Answers a message: `emit` is given the answer, whose label is [`ANSWER`].\n\
             pub fn serve<F: ?Sized, S: Server<F>, E, X>(server: &mut S, from: &F, label: u32, message: &[u8], \
             emit: X) -> E where X: FnOnce(&[u8]{grants}) -> E {{\n\
             let refuse = |refusal, emit: X| compose_plain::<answer::Owned, {least}, E>(\n\
             |mut answer| answer.set_refused(refusal), {emitted});\n\
             let message = open(message);\n\
             let request = match message.get_root::<request::Reader<'_>>() {{\n\
             Ok(request) if label == LABEL => request,\n\
             _ => return refuse(Refusal::BadRequest, emit),\n}};\n\
             let done = ",
            least = self.least,
            grants = if self.returns() { ", &[S::Grant]" } else { "" },
            emitted = if self.returns() { "|answer: &[u8]| emit(answer, &[])" } else { "emit" },
        )?;
        if self.has_union {
            writeln!(text, "match request.which() {{")?;
        }
        for method in &self.methods {
            self.arm(text, method)?;
        }
        if self.has_union {
            writeln!(text, "Err(_) => Err((Refusal::BadRequest, emit)),\n}}")?;
        }
        writeln!(text, ";\ndone.unwrap_or_else(|(refusal, emit)| refuse(refusal, emit))\n}}")?;
        Ok(())
    }

    /// Returns the server's code for one method.
    fn arm(&self, text: &mut String, method: &Method) -> Result<()> {
        let Method { snake, camel, answer, .. } = method;
        let (bound, passed) = match (method.asks, self.has_union) {
            (false, _) => ("()", ""),
            (true, true) => ("asked", ", asked"),
            (true, false) => ("", ", request"),
        };
        let given = if method.returns { ", given" } else { "" };
        let done = if method.answers {
            format!("server.{snake}(from{passed}, answer.init_{snake}(){given})")
        } else {
            format!("{{ let mut answer = answer; answer.set_{snake}(()); server.{snake}(from{passed}) }}")
        };
        if self.has_union {
            write!(text, "Ok(request::{camel}({bound})) => ")?;
        }
        let words = capacity(*answer);
        if self.returns() {
            let given = if method.returns { "given" } else { "_" };
            write!(
                text,
                "compose_giving::<answer::Owned, S::Grant, {words}, Refusal, E, _>(|answer, {given}| {done}, emit)"
            )?;
        } else {
            write!(text, "compose::<answer::Owned, {words}, Refusal, E, _>(|answer| {done}, emit)")?;
        }
        if self.has_union {
            writeln!(text, ",")?;
        }
        Ok(())
    }
}

fn capacity(words: Option<u32>) -> String {
    words.map_or("{ crate::WORDS_MAX }".into(), |words| words.to_string())
}

fn docs(text: &mut String, doc: &str) -> Result<()> {
    for line in doc.lines() {
        writeln!(text, "/// {line}")?;
    }
    Ok(())
}
