//! Prints a message as text: field by field, by the schema that its label names. If there is no
//! such schema, or the message does not fit it, prints its words and pointers ([`crate::raw`]).

use core::fmt::{self, Formatter, Write};

use capnp::{dynamic_list, dynamic_struct, dynamic_value};

use crate::{CAP_FIELDS, CapField, ROOTS, Root, open, raw};

/// Elements of a list, and bytes of data, that are shown.
const ELEMENTS_MAX: u32 = 64;
const DATA_MAX: usize = 32;

/// A message that somebody saw: its label and its bytes, whole words.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    pub label: u32,
    pub bytes: &'a [u8],
}

/// What messages with this label begin with.
pub fn root(label: u32) -> Option<&'static Root> {
    ROOTS.iter().find(|root| root.label == label)
}

impl fmt::Display for Captured<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = self.bytes.len() / 8;
        let Some(root) = root(self.label) else {
            writeln!(f, "unknown label {:#010x}, {words} words", self.label)?;
            return raw::show(self.bytes, f);
        };
        writeln!(f, "{}.{} (label {:#010x}), {words} words", root.protocol, root.name, self.label)?;
        let message = open(self.bytes);
        let shown = match message.get_root().and_then(|any| (root.read)(any)) {
            Ok(dynamic_value::Reader::Struct(fields)) => structure(fields, 1, f)?,
            Ok(_) => false,
            Err(error) => malformed(&error, f)?,
        };
        if shown { Ok(()) } else { raw::show(self.bytes, f) }
    }
}

/// Whether all of it could be read: the rest of the text says where not.
type Whole = Result<bool, fmt::Error>;

fn malformed(error: &capnp::Error, f: &mut Formatter<'_>) -> Whole {
    writeln!(f, "<malformed: {:?}>", error.kind)?;
    Ok(false)
}

fn indent(depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("  "))
}

fn structure(of: dynamic_struct::Reader<'_>, depth: usize, f: &mut Formatter<'_>) -> Whole {
    let schema = of.get_schema();
    let (Ok(fields), Ok(chosen)) = (schema.get_non_union_fields(), of.which()) else {
        indent(depth, f)?;
        f.write_str("<a member that this schema does not have>\n")?;
        return Ok(false);
    };
    let mut whole = true;
    for field in fields.into_iter().chain(chosen) {
        let name = field.get_proto().get_name().ok().and_then(|name| name.to_str().ok()).unwrap_or("?");
        indent(depth, f)?;
        f.write_str(name)?;
        if let Some(known) = cap_field(schema.get_proto().get_id(), name) {
            capability((known.place)(of), of.has(field).unwrap_or(true), f)?;
            continue;
        }
        whole &= match of.get(field) {
            Ok(found) => value(found, depth, f)?,
            Err(error) => {
                f.write_str(" = ")?;
                malformed(&error, f)?
            }
        };
    }
    Ok(whole)
}

fn cap_field(id: u64, name: &str) -> Option<&'static CapField> {
    CAP_FIELDS.iter().find(|field| field.id == id && field.name == name)
}

fn capability(place: Option<u32>, some: bool, f: &mut Formatter<'_>) -> fmt::Result {
    match place {
        Some(place) => writeln!(f, " = capability {place} of those that came along"),
        None if some => f.write_str(" = <no capability>\n"),
        None => f.write_str(" = nothing\n"),
    }
}

/// What follows a field's name.
fn value(of: dynamic_value::Reader<'_>, depth: usize, f: &mut Formatter<'_>) -> Whole {
    use dynamic_value::Reader;
    match of {
        Reader::Struct(fields) => {
            f.write_str(":\n")?;
            return structure(fields, depth + 1, f);
        }
        Reader::List(elements) => return list(elements, depth, f),
        Reader::Void => f.write_str("\n")?,
        Reader::Text(text) => match text.to_str() {
            Ok(text) => writeln!(f, " = {text:?}")?,
            Err(_) => {
                f.write_str(" = ")?;
                data(text.as_bytes(), f)?;
            }
        },
        Reader::Data(bytes) => {
            f.write_str(" = ")?;
            data(bytes, f)?;
        }
        Reader::Enum(of) => {
            let known = of.get_enumerant().ok().flatten();
            match known.as_ref().and_then(|one| one.get_proto().get_name().ok()?.to_str().ok()) {
                Some(name) => writeln!(f, " = {name}")?,
                None => writeln!(f, " = <number {} that this schema does not have>", of.get_value())?,
            }
        }
        Reader::Bool(of) => writeln!(f, " = {of}")?,
        Reader::Int8(of) => writeln!(f, " = {of}")?,
        Reader::Int16(of) => writeln!(f, " = {of}")?,
        Reader::Int32(of) => writeln!(f, " = {of}")?,
        Reader::Int64(of) => writeln!(f, " = {of}")?,
        Reader::UInt8(of) => number(of.into(), f)?,
        Reader::UInt16(of) => number(of.into(), f)?,
        Reader::UInt32(of) => number(of.into(), f)?,
        Reader::UInt64(of) => number(of, f)?,
        Reader::Float32(of) => writeln!(f, " = {of}")?,
        Reader::Float64(of) => writeln!(f, " = {of}")?,
        Reader::AnyPointer(of) if of.is_null() => f.write_str(" = nothing\n")?,
        Reader::AnyPointer(_) | Reader::Capability(_) => {
            f.write_str(" = something that no schema tells\n")?;
        }
    }
    Ok(true)
}

/// Small ones as people count, large ones, which are addresses and ids, in both ways.
fn number(of: u64, f: &mut Formatter<'_>) -> fmt::Result {
    if of < 0x1000 { writeln!(f, " = {of}") } else { writeln!(f, " = {of} ({of:#x})") }
}

fn data(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{} bytes", bytes.len())?;
    if !bytes.is_empty() {
        f.write_char(':')?;
    }
    for byte in bytes.iter().take(DATA_MAX) {
        write!(f, " {byte:02x}")?;
    }
    f.write_str(if bytes.len() > DATA_MAX { " …\n" } else { "\n" })
}

fn list(of: dynamic_list::Reader<'_>, depth: usize, f: &mut Formatter<'_>) -> Whole {
    writeln!(f, ": {} elements", of.len())?;
    let mut whole = true;
    for index in 0..of.len().min(ELEMENTS_MAX) {
        indent(depth + 1, f)?;
        write!(f, "[{index}]")?;
        match of.get(index) {
            Ok(element) => whole &= value(element, depth + 1, f)?,
            Err(error) => {
                f.write_str(" = ")?;
                // The others would go the same way.
                return malformed(&error, f);
            }
        }
    }
    if of.len() > ELEMENTS_MAX {
        indent(depth + 1, f)?;
        f.write_str("…\n")?;
    }
    Ok(whole)
}
