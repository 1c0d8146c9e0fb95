//! Security labels and the audit, as the command line asks for them. Without these words there are
//! neither labels nor an audit.
//!
//! | word | what process 1 does |
//! |---|---|
//! | `label=N` | gives the label N to processes without a label in the description, and to their memory, and so to everything that they make |
//! | `rules=S:O:MAY,…` | sets what subjects of label S may do with objects of label O: letters of `gjrw` (grant, join, read, write), or `-` |
//! | `audit=LOG2` | starts the audit, with 2^LOG2 records for each CPU, and lists the records when the system has ended |

use core::fmt;

use abi::audit::{AUDIT_LOG2, LABELS, RECORD_WORDS, Record, may};
use user_rt::cap::{Process, Untyped};
use user_rt::cmdline::{BadOption, Options};
use user_rt::report;
use user_rt::spawn::{Nursery, own};

/// What the command line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy<'a> {
    label: u32,
    rules: &'a str,
    audit: Option<u8>,
}

/// What subjects of a label may do with objects of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    subject: u32,
    object: u32,
    may: u8,
}

const LETTERS: [(u8, u8); 4] = [(b'g', may::GRANT), (b'j', may::JOIN), (b'r', may::READ), (b'w', may::WRITE)];

impl<'a> Policy<'a> {
    pub fn of(options: &Options<'a>) -> Result<Policy<'a>, BadOption<'a>> {
        let label = options.number("label", 0)?;
        let bad = |key, wanted| BadOption { key, value: options.value(key).unwrap_or(""), wanted };
        let label = u32::try_from(label).ok().filter(|label| *label < LABELS);
        let audit = match options.value("audit") {
            None => None,
            Some(_) => {
                let log2 = u8::try_from(options.number("audit", 0)?).ok();
                Some(
                    log2.filter(|log2| AUDIT_LOG2.contains(log2))
                        .ok_or(bad("audit", "a number from 4 to 12"))?,
                )
            }
        };
        let policy = Policy {
            label: label.ok_or(bad("label", "a number below 32"))?,
            rules: options.value("rules").unwrap_or(""),
            audit,
        };
        let readable = policy.rules().all(|rule| rule.is_some());
        if readable { Ok(policy) } else { Err(bad("rules", "S:O:MAY, as in 3:7:gr,3:0:-")) }
    }

    fn rules(&self) -> impl Iterator<Item = Option<Rule>> + use<'a> {
        self.rules.split(',').filter(|rule| !rule.is_empty()).map(Rule::parse)
    }

    /// Starts the audit and sets the rules, before a program exists.
    pub fn begin(&self, nursery: &mut Nursery, cpus: u64) -> user_rt::Result<()> {
        let machine = own::machine();
        if let Some(log2) = self.audit {
            // The rings' heads have room in what the next power of two is more.
            let bytes = (cpus * RECORD_WORDS as u64 * 8) << log2;
            let memory = nursery.make::<Untyped>(u64::from(bytes.ilog2() + 1))?;
            machine.start_audit(&memory, log2)?;
        }
        for Rule { subject, object, may } in self.rules().flatten() {
            machine.set_rule(subject, object, may)?;
        }
        Ok(())
    }

    /// Labels a process and its memory. The process was made, and has nothing in it yet.
    /// `described` is the label that its description says, or 0: then the command line's counts.
    pub fn confine(&self, described: u8, process: &Process, memory: Option<&Untyped>) -> user_rt::Result<()> {
        let label = if described == 0 { self.label } else { described.into() };
        if label == 0 {
            return Ok(());
        }
        own::machine().set_label(process, label)?;
        memory.map_or(Ok(()), |memory| own::machine().set_label(memory, label))
    }

    /// Reports the records of the kernel's audit, of the first `cpus` CPUs, after the system has
    /// ended. Does nothing if the options started no audit.
    pub fn tell(&self, cpus: u64) {
        if self.audit.is_none() {
            return;
        }
        for cpu in 0..cpus as u32 {
            if let Err(refusal) = list(cpu) {
                report!("error init: reading the audit of cpu{cpu}: {refusal}");
            }
        }
    }
}

fn list(cpu: u32) -> user_rt::Result<()> {
    let mut next = 0;
    loop {
        let records = own::machine().read_audit(cpu, next)?;
        if records.lost != 0 {
            report!("audit cpu={cpu} lost={}", records.lost);
        }
        if records.is_empty() {
            return Ok(());
        }
        records.iter().for_each(|record| report!("audit cpu={cpu} {}", Line(record)));
        next = records.next;
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        let mut parts = text.split(':');
        let mut label = || parts.next()?.parse::<u32>().ok().filter(|label| *label < LABELS);
        let (subject, object) = (label().filter(|subject| *subject != 0)?, label()?);
        let letters = parts.next().filter(|letters| !letters.is_empty())?;
        let letters = if letters == "-" { "" } else { letters };
        let bit = |letter: u8| LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, bit)| *bit);
        let may = letters.bytes().try_fold(0, |may, letter| Some(may | bit(letter)?))?;
        parts.next().is_none().then_some(Rule { subject, object, may })
    }
}

/// A record as it is listed.
struct Line<'a>(&'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { time, event, op, error, actor, label, object, identity, rights, to, detail } = self.0;
        write!(f, "time={time} event={event:?} actor={:#x} label={label}", actor.raw())?;
        if let Some(op) = op {
            write!(f, " op={op:?}")?;
        }
        if let Some(error) = error {
            write!(f, " error={error:?}")?;
        }
        if let Some(object) = object {
            write!(f, " object={object:?} identity={identity:#x} rights={:#x}", rights.0)?;
        }
        write!(f, " to={to:#x} detail={detail:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Policy<'_>, String> {
        Policy::of(&Options::new(text)).map_err(|bad| bad.to_string())
    }

    #[test]
    fn nothing_is_asked_for() {
        assert_eq!(of("run=bench"), Ok(Policy { label: 0, rules: "", audit: None }));
    }

    #[test]
    fn words_are_read() {
        let policy = of("label=3 rules=3:7:gr,3:0:- audit=12").unwrap();
        assert_eq!((policy.label, policy.audit), (3, Some(12)));
        let rules: Vec<Rule> = policy.rules().flatten().collect();
        let may = may::GRANT | may::READ;
        assert_eq!(rules, [Rule { subject: 3, object: 7, may }, Rule { subject: 3, object: 0, may: 0 }]);
    }

    #[test]
    fn others_are_refused() {
        for (text, about) in [
            ("label=32", "label"),
            ("label=x", "label"),
            ("audit=3", "audit"),
            ("audit=13", "audit"),
            ("audit", "audit"),
            ("rules=0:1:g", "rules"),
            ("rules=3:32:g", "rules"),
            ("rules=3:7", "rules"),
            ("rules=3:7:", "rules"),
            ("rules=3:7:x", "rules"),
            ("rules=3:7:g:r", "rules"),
        ] {
            assert!(of(text).unwrap_err().starts_with(&format!("option {about}=")), "{text}");
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let record = Record {
            time: 5,
            event: abi::audit::AuditEvent::Grant,
            op: Some(abi::Op::CapCopy),
            error: None,
            actor: abi::TaskId::from_raw(0x10),
            label: 3,
            object: Some(abi::ObjType::Group),
            identity: 0x40,
            rights: abi::Rights(5),
            to: 0x80,
            detail: 1,
        };
        assert_eq!(
            Line(&record).to_string(),
            "time=5 event=Grant actor=0x10 label=3 op=CapCopy object=Group identity=0x40 rights=0x5 to=0x80 detail=0x1"
        );
    }
}
