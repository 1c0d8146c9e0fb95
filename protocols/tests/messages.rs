//! Messages from end to end, on the host: requests arrive, and malformed messages do no harm.

use std::cell::{Cell, RefCell};

use proptest::collection::vec;
use proptest::prelude::*;
use protocols::capnp::traits::{HasStructSize, Owned};
use protocols::echo::{self, Refusal, Urgency, answer, request};
use protocols::show::Captured;
use protocols::{
    Failure, Full, Given, ROOTS, Transport, Words, compose_giving_in, compose_in, compose_plain, oom, open,
    pager, store, supervisor,
};

/// Answers as the schema says.
struct Echo;

impl echo::Server<()> for Echo {
    type Grant = u32;

    fn add(
        &mut self,
        _: &(),
        asked: request::add::Reader<'_>,
        mut answer: answer::add::Builder<'_>,
    ) -> Result<(), Refusal> {
        answer.set_sum(asked.get_left().checked_add(asked.get_right()).ok_or(Refusal::Overflow)?);
        Ok(())
    }

    fn letter(
        &mut self,
        _: &(),
        asked: request::letter::Reader<'_>,
        answer: answer::letter::Builder<'_>,
    ) -> Result<(), Refusal> {
        let mut answer = answer.init_digest();
        let letter = asked.get_letter()?;
        let (mut lines, mut bytes) = (0, 0);
        for line in letter.get_lines()? {
            lines += 1;
            bytes += line.get_text()?.to_str().map_err(|_| Refusal::BadRequest)?.len() as u64;
        }
        bytes += letter.get_attachment()?.len() as u64;
        answer.set_lines(lines);
        answer.set_bytes(bytes);
        answer.set_sum(letter.get_weights()?.iter().map(u64::from).sum());
        Ok(())
    }

    fn keep(
        &mut self,
        _: &(),
        asked: request::keep::Reader<'_>,
        mut answer: answer::keep::Builder<'_>,
    ) -> Result<(), Refusal> {
        answer.set_used(asked.granted_what().ok_or(Refusal::BadRequest)?.into());
        Ok(())
    }

    fn nothing(&mut self, _: &()) -> Result<(), Refusal> {
        Ok(())
    }

    fn fetch(
        &mut self,
        _: &(),
        mut answer: answer::fetch::Builder<'_>,
        given: &mut Given<u32>,
    ) -> Result<(), Refusal> {
        answer.grant_what(given, FETCHED)?;
        Ok(())
    }
}

/// What [`Echo`] gives.
const FETCHED: u32 = 77;

/// Hands messages to a server here, as a spoiler changes them.
struct Here<S> {
    server: RefCell<S>,
    spoil: Option<(usize, u8)>,
    sent: Cell<usize>,
    given: RefCell<Vec<u32>>,
}

impl<S> Here<S> {
    fn new(server: S) -> Here<S> {
        Here { server: RefCell::new(server), spoil: None, sent: Cell::new(0), given: RefCell::default() }
    }
}

impl<S: echo::Server<(), Grant = u32>> Transport for &Here<S> {
    type Error = ();
    type Grant = u32;
    type Caps = Vec<u32>;

    fn call<R>(
        &self,
        label: u32,
        message: &[u8],
        grants: &[u32],
        read: impl FnOnce(u32, &[u8], &mut Vec<u32>) -> R,
    ) -> Result<R, ()> {
        self.sent.set(message.len() / 8);
        self.given.replace(grants.to_vec());
        let server = &mut *self.server.borrow_mut();
        let words = |bytes: &[u8]| Words::<1024>::of(protocols::words_of(bytes));
        let (length, mut answer, mut caps) = echo::serve(server, &(), label, message, |answer, grants| {
            (answer.len(), words(answer), grants.to_vec())
        });
        if let Some((at, flip)) = self.spoil {
            answer.bytes_mut()[at % length] ^= flip;
        }
        Ok(read(echo::ANSWER, &answer.bytes()[..length], &mut caps))
    }
}

fn letter_of(lines: &[String], data: &[u8], weights: &[u16], letter: echo::letter::Builder<'_>) {
    let mut letter = letter;
    letter.set_subject("of lines");
    letter.set_urgency(Urgency::Now);
    letter.set_attachment(data);
    letter.set_signed(true);
    letter.set_weights(weights).expect("a list of numbers");
    let mut list = letter.init_lines(lines.len() as u32);
    for (number, text) in (0..).zip(lines) {
        let mut line = list.reborrow().get(number);
        line.set_number(number);
        line.set_text(text.as_str());
    }
}

/// A message of any length.
fn built<T>(fill: impl FnOnce(T::Builder<'_>)) -> Vec<u64>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
{
    let mut buffer = Box::new(Words::<8192>::zeroed());
    let filled = |root: T::Builder<'_>| {
        fill(root);
        Ok::<(), ()>(())
    };
    let bytes = compose_in::<T, _>(buffer.bytes_mut(), filled).expect("it cannot fail");
    protocols::words_of(&buffer.bytes()[..bytes]).collect()
}

fn a_letter(lines: &[String], data: &[u8], weights: &[u16]) -> Vec<u64> {
    built::<request::Owned>(|request| letter_of(lines, data, weights, request.init_letter().init_letter()))
}

/// Does everything that programs do with received bytes: serving each protocol, and printing.
fn take(label: u32, words: &[u64]) {
    let bytes = Words::<512>::of(words.iter().copied());
    let bytes = &bytes.bytes()[..words.len().min(512) * 8];
    let answer = echo::serve(&mut Echo, &(), label, bytes, |answer, _| {
        protocols::words_of(answer).collect::<Vec<_>>()
    });
    assert!(!answer.is_empty(), "there is always an answer");
    for root in ROOTS {
        let text = Captured { label: root.label, bytes }.to_string();
        assert!(text.starts_with(root.protocol));
    }
    let _ = Captured { label: 7, bytes }.to_string();
}

#[test]
fn what_is_asked_is_answered() {
    let here = Here::new(Echo);
    let client = echo::Client(&here);
    let add = |left, right| {
        let fill = |mut add: request::add::Builder<'_>| {
            add.set_left(left);
            add.set_right(right);
        };
        client.add(fill, |sum| Ok(sum.get_sum()))
    };
    assert_eq!(add(40, 2), Ok(42));
    assert_eq!(here.sent.get(), 4, "it fits registers");
    assert_eq!(add(u32::MAX, 1), Err(Failure::Refused(Refusal::Overflow)));
    assert_eq!(client.nothing(), Ok(()));
    let lines = ["one".to_owned(), "and another".to_owned()];
    let got = client.letter(
        |letter, _| {
            letter_of(&lines, &[1, 2, 3], &[10, 20], letter.init_letter());
            Ok(())
        },
        |answer| {
            let digest = answer.get_digest()?;
            Ok((digest.get_lines(), digest.get_bytes(), digest.get_sum()))
        },
    );
    assert_eq!(got, Ok((2, 17, 30)));
}

#[test]
fn capabilities_are_places_in_the_table() {
    let here = Here::new(Echo);
    let client = echo::Client(&here);
    let keep = |grants: &[u32]| {
        let fill = |mut keep: request::keep::Builder<'_>, given: &mut Given<u32>| {
            grants.iter().try_for_each(|grant| keep.grant_what(given, *grant))
        };
        client.keep(fill, |answer| Ok(answer.get_used()))
    };
    assert_eq!(keep(&[5]), Ok(0));
    assert_eq!(*here.given.borrow(), [5]);
    assert_eq!(keep(&[5, 6]), Ok(0), "the same pointer again");
    assert_eq!(*here.given.borrow(), [6]);
    assert_eq!(keep(&[]), Err(Failure::Refused(Refusal::BadRequest)), "no pointer");
    let fetched = client.fetch(|answer, caps| Ok((answer.granted_what(), caps.clone())));
    assert_eq!(fetched, Ok((Some(0), vec![FETCHED])));
    assert_eq!(client.nothing(), Ok(()));
    assert_eq!(*here.given.borrow(), [0; 0], "nothing is given where nothing is");
}

/// A pointer by hand: any place, and what is a pointer of another kind.
#[test]
fn capability_pointers_say_what_they_say() {
    let mut buffer = Words::<8>::zeroed();
    let mut given = Given::<u32>::nothing();
    let fill =
        |request: request::Builder<'_>, given: &mut Given<u32>| request.init_keep().grant_what(given, 9);
    let bytes = compose_giving_in::<request::Owned, u32, Full>(buffer.bytes_mut(), &mut given, fill).unwrap();
    let words: Vec<u64> = protocols::words_of(&buffer.bytes()[..bytes]).collect();
    let at = words.iter().position(|word| *word == 3).expect("a pointer to place 0");
    for (word, place) in [
        (3 | 2 << 32, Some(2)),
        (3 | u64::from(u32::MAX) << 32, Some(u32::MAX)),
        (7, None),
        (0, None),
        (1, None),
    ] {
        let mut words = words.clone();
        words[at] = word;
        let message = Words::<8>::of(words.iter().copied());
        let message = &message.bytes()[..bytes];
        let opened = open(message);
        let Ok(request::Keep(keep)) = opened.get_root::<request::Reader<'_>>().unwrap().which() else {
            panic!("another member")
        };
        assert_eq!(keep.granted_what(), place, "{word:#x}");
        let shown = Captured { label: echo::LABEL, bytes: message }.to_string();
        let says = match place {
            Some(place) => format!("what = capability {place} of those that came along\n"),
            None if word == 0 => "what = nothing\n".into(),
            None => "what = <no capability>\n".into(),
        };
        assert!(shown.contains(&says), "{word:#x}: {shown}");
    }
}

#[test]
fn a_table_has_room_for_four() {
    let mut buffer = Words::<64>::zeroed();
    let mut given = Given::nothing();
    let letters = |many: u32| {
        move |request: request::Builder<'_>, given: &mut Given<u32>| {
            let mut replies = request.init_letter().init_letter().init_replies(many);
            (0..many).try_for_each(|n| replies.reborrow().get(n).grant_enclosed(given, n))
        }
    };
    let five = compose_giving_in::<request::Owned, _, _>(buffer.bytes_mut(), &mut given, letters(5));
    assert_eq!(five, Err(Full));
    let mut given = Given::nothing();
    let bytes =
        compose_giving_in::<request::Owned, _, _>(buffer.bytes_mut(), &mut given, letters(4)).unwrap();
    let opened = open(&buffer.bytes()[..bytes]);
    let Ok(request::Letter(letter)) = opened.get_root::<request::Reader<'_>>().unwrap().which() else {
        panic!("another member")
    };
    let replies = letter.get_letter().unwrap().get_replies().unwrap();
    let places: Vec<_> = replies.iter().map(|reply| reply.granted_enclosed()).collect();
    assert_eq!(places, [Some(0), Some(1), Some(2), Some(3)], "in a list of structs, too");
    assert_eq!(given.grants(), [0, 1, 2, 3]);
}

#[test]
fn labels_are_their_own() {
    for (index, root) in ROOTS.iter().enumerate() {
        assert!(root.label >= 1 << 31, "{}.{}", root.protocol, root.name);
        assert!(ROOTS[..index].iter().all(|other| other.label != root.label));
    }
}

/// Programs that end, or panic, and a pager that brings a page in, send no words but those in
/// registers.
#[test]
fn short_messages_are_short() {
    let words = |bytes: &[u8]| bytes.len() / 8;
    let done =
        compose_plain::<supervisor::request::Owned, 8, _>(|request| request.init_done().set_failed(1), words);
    assert_eq!(done, 4);
    let view =
        compose_plain::<supervisor::request::Owned, 8, _>(|request| request.init_view().set_dma(true), words);
    assert_eq!(view, 4);
    let get = compose_plain::<store::request::Owned, 8, _>(|request| request.init_get().set_slot(7), words);
    assert_eq!(get, 4);
    let pin = compose_plain::<pager::request::Owned, 8, _>(|request| request.init_pin().set_pages(3), words);
    assert_eq!(pin, 4);
    let region =
        compose_plain::<pager::answer::Owned, 8, _>(|answer| answer.init_attach().set_pages(3), words);
    assert_eq!(region, 4);
    let kept = compose_plain::<store::answer::Owned, 8, _>(|mut answer| answer.set_get(()), words);
    assert!(kept <= 4);
}

#[test]
fn all_holders_fit_a_question() {
    let fill = |request: oom::request::Builder<'_>| {
        request.init_holders(16);
    };
    let words =
        compose_plain::<oom::request::Owned, { protocols::WORDS_MAX }, _>(fill, |bytes| bytes.len() / 8);
    assert!(words <= protocols::WORDS_MAX);
}

#[test]
fn what_is_shown_has_the_schemas_names() {
    let words = built::<store::request::Owned>(|request| request.init_get().set_slot(0x1234));
    let bytes = Words::<8>::of(words.iter().copied());
    let bytes = &bytes.bytes()[..words.len() * 8];
    let text = Captured { label: store::LABEL, bytes }.to_string();
    assert!(text.starts_with("store.Request (label 0x"), "{text}");
    assert!(text.contains("get:\n    slot = 4660 (0x1234)\n"), "{text}");
    let unknown = Captured { label: 1, bytes }.to_string();
    assert!(unknown.contains("root: struct of 2 words, 1 pointers: 0x10000 0x1234"), "{unknown}");
    assert!(unknown.contains("[0]: nothing"), "{unknown}");
}

/// Lists that say that they are longer than anything, and structs in themselves.
#[test]
fn reading_ends() {
    // A letter whose replies are letters, and these the same again: a pointer back to its own
    // struct.
    let mut loops = a_letter(&["x".to_owned()], &[], &[]);
    let back = loops.iter().position(|word| *word as u32 & 3 == 1).expect("a list");
    for at in back..loops.len() {
        let mut spoilt = loops.clone();
        // A struct pointer one word back, with the letter's own shape.
        spoilt[at] = 0xffff_fffc | 2 << 32 | 6 << 48;
        take(echo::LABEL, &spoilt);
        // A list of 2^29 - 1 elements of no size.
        spoilt[at] = 1 | 0x1fff_ffff << 35;
        take(echo::LABEL, &spoilt);
        // As many structs of no size, behind a tag.
        spoilt[at] = 1 | 7 << 32;
        if let Some(tag) = spoilt.get_mut(at + 1) {
            *tag = 0x1fff_ffff << 2;
        }
        take(echo::LABEL, &spoilt);
    }
    loops.truncate(1);
    take(echo::LABEL, &loops);
    take(echo::LABEL, &[]);
}

#[test]
fn a_message_has_to_be_aligned() {
    let words = a_letter(&[], &[], &[]);
    let bytes = Words::<16>::of(words.iter().copied());
    assert!(open(&bytes.bytes()[..words.len() * 8]).get_root::<request::Reader<'_>>().is_ok());
    let off = open(&bytes.bytes()[4..4 + words.len() * 8]).get_root::<request::Reader<'_>>().is_err();
    assert!(off, "an error, no crash");
}

fn text() -> impl Strategy<Value = Vec<String>> {
    vec("[a-z ]{0,20}", 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2000 }))]

    #[test]
    fn letters_arrive(lines in text(), data in vec(any::<u8>(), 0..100), weights in vec(any::<u16>(), 0..20)) {
        let words = a_letter(&lines, &data, &weights);
        let bytes = Box::new(Words::<512>::of(words.iter().copied()));
        let bytes = &bytes.bytes()[..words.len() * 8];
        let letter = open(bytes);
        let request = letter.get_root::<request::Reader<'_>>().unwrap();
        let Ok(request::Letter(letter)) = request.which() else { panic!("another member") };
        let letter = letter.get_letter().unwrap();
        prop_assert_eq!(letter.get_offset(), -1, "a default");
        prop_assert!(letter.get_weights().unwrap().iter().eq(weights.iter().copied()));
        prop_assert_eq!(letter.get_attachment().unwrap(), data);
        for (line, text) in letter.get_lines().unwrap().iter().zip(&lines) {
            prop_assert_eq!(line.get_text().unwrap().to_str().unwrap(), text.as_str());
        }
        // What is written for people has all of it.
        let shown = Captured { label: echo::LABEL, bytes }.to_string();
        for text in &lines {
            let quoted = format!("{text:?}");
            prop_assert!(shown.contains(&quoted), "{}", shown);
        }
    }

    #[test]
    fn any_words_are_taken(label in prop::sample::select(ROOTS.iter().map(|root| root.label).collect::<Vec<_>>()),
            words in vec(any::<u64>(), 0..80)) {
        take(label, &words);
    }

    /// Words as pointers have them: near, short, of every kind.
    #[test]
    fn any_pointers_are_taken(words in vec((0u64..4, -8i32..40, 0u64..8, 0u64..12, 0u64..4), 1..68)) {
        let words: Vec<u64> = words.iter().map(|(kind, offset, size, count, pointers)| match kind {
            0 => (*offset as u32 as u64) << 2 & 0xffff_ffff | size << 32 | pointers << 48,
            1 => (*offset as u32 as u64) << 2 & 0xffff_ffff | 1 | size << 32 | count << 35,
            2 => 2 | size << 3 | pointers << 32,
            _ => 3 | count << 32,
        }).collect();
        take(echo::LABEL, &words);
    }

    #[test]
    fn spoilt_letters_are_taken(lines in text(), at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
        let mut words = a_letter(&lines, &[1; 20], &[2; 9]);
        let byte = at.index(words.len() * 8);
        words[byte / 8] ^= u64::from(flip) << (byte % 8 * 8);
        take(echo::LABEL, &words);
        words.truncate(cut.index(words.len()));
        take(echo::LABEL, &words);
    }

    /// A client takes answers that are none as calmly.
    #[test]
    fn spoilt_answers_are_taken(at in any::<usize>(), flip in 1u8..) {
        let here = Here { spoil: Some((at, flip)), ..Here::new(Echo) };
        let client = echo::Client(&here);
        let _ = client.nothing();
        let _ = client.add(|_| {}, |sum| Ok(sum.get_sum()));
        let _ = client.letter(|_, _| Ok(()), |answer| Ok(answer.get_digest()?.get_sum()));
    }
}
