//! Messages that describe themselves, by stubs made from `protocols/schema/echo.capnp`: with
//! capabilities that are used where they arrive, in words, in pages that are read in place, and
//! from memory that the sender still writes.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{Cap, Error, Fate, Grant, PAGE_SIZE, PageMode, PageRange, Rights};
use protocols::echo::{self, Refusal, answer, letter, request};
use protocols::{Failure, Full, Given, Words, capnp, compose_giving_in, open};
use user_rt::arch::{Buffer, memory};
use user_rt::cap::{Access, Frame, Group, Handle, Notification, Process};
use user_rt::grants::{Caps, copied, moved, offer};
use user_rt::invoke::copy;
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::layout::SHARED_VA;
use user_rt::pages::Pooled;
use user_rt::parcel::{BYTES_MAX, Intake, Parcel, Post, REMAP_FROM_SEEN, Seen};
use user_rt::spawn::own;
use user_rt::talk::{Line, put_giving, with_bytes, with_parcel, write};
use user_rt::utcb;

use crate::lab::{CHILD_FREE, CHILD_GROUP, Lab, PUPPETS_MAX, Place, Wanted};
use crate::suite::{Failure as Wrong, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    typed_messages_carry_capabilities pointers_without_capabilities_are_refused letters_in_words
    letters_in_pages_are_read_where_they_are letters_that_are_still_written_are_copied_first
    pages_of_an_answer_do_not_stay
}

/// Exposures where the keeper listens for words and for parcels, and of the task that writes the
/// memory that a letter came from.
const TALK: u32 = PUPPETS_MAX + 10;
const MAIL: u32 = PUPPETS_MAX + 11;
const SCRIBBLER: u32 = PUPPETS_MAX + 12;
/// Exposure of the task that answers with an unrequested page.
const BEARER: u32 = PUPPETS_MAX + 13;
/// Holes in every process of this program: for letters, shared memory and parcels.
const FROM: u64 = SHARED_VA + 0x1000_0000;
const TRAY: u64 = SHARED_VA + 0x2800_0000;
const WINDOW: u64 = SHARED_VA + 0x1800_0000;
const TRAY_PAGES: u64 = REMAP_FROM_SEEN + 1;
/// Slots that the keeper offers, and the frame that it copies parcels to.
const SLOTS: Cap = Cap(CHILD_FREE);
const SLOT_COUNT: u32 = 64;
const COPY: Cap = Cap(CHILD_FREE + SLOT_COUNT);

/// Bits that the keeper raises to use what it is given.
const USED: u64 = 0x50;
const ENCLOSED: u64 = 0x60;

fn tray() -> &'static [AtomicU64] {
    // SAFETY: the test mapped as many pages there, in both processes, until both end.
    unsafe { memory::mapped_words(TRAY, (TRAY_PAGES * PAGE_SIZE / 8) as usize) }
}

// --- the keeper ----------------------------------------------------------------------------------

/// State of the keeper for one call.
struct Keeper<'a> {
    caps: &'a mut Caps,
    kept: &'a mut Option<Notification>,
}

/// Returns lines, bytes and sum of a letter, and the address of its attachment.
fn digest(letter: letter::Reader<'_>) -> capnp::Result<[u64; 4]> {
    let mut bytes = 0;
    let lines = letter.get_lines()?;
    for line in lines {
        bytes += line.get_text()?.len() as u64;
    }
    let attachment = letter.get_attachment()?;
    let sum = attachment.iter().zip(1..).map(|(byte, at): (_, u64)| u64::from(*byte) * at).sum();
    Ok([u64::from(lines.len()), bytes + attachment.len() as u64, sum, attachment.as_ptr() as u64])
}

impl echo::Server<Received> for Keeper<'_> {
    type Grant = Grant;

    fn add(
        &mut self,
        _: &Received,
        asked: request::add::Reader<'_>,
        mut answer: answer::add::Builder<'_>,
    ) -> Result<(), Refusal> {
        answer.set_sum(asked.get_left().checked_add(asked.get_right()).ok_or(Refusal::Overflow)?);
        Ok(())
    }

    fn letter(
        &mut self,
        from: &Received,
        asked: request::letter::Reader<'_>,
        answer: answer::letter::Builder<'_>,
    ) -> Result<(), Refusal> {
        let mut answer = answer.init_digest();
        let letter = asked.get_letter()?;
        let [lines, bytes, sum, place] = digest(letter)?;
        if let Some(enclosed) = letter.granted_enclosed() {
            let note: Notification = self.caps.take(enclosed, Rights::NOTIFY).ok_or(Refusal::BadRequest)?;
            note.notify(ENCLOSED).map_err(|_| Refusal::BadRequest)?;
        }
        if from.exposure == MAIL {
            let scribbler = Group::at(CHILD_GROUP).exposure(SCRIBBLER);
            let done = scribbler.call(&Message::default()).map_err(|_| Refusal::BadRequest)?;
            answer.set_denied(done.regs[0] as u8);
        }
        answer.set_lines(lines as u32);
        answer.set_bytes(bytes);
        answer.set_sum(sum);
        answer.set_place(place);
        answer.set_again(digest(letter)?[2]);
        Ok(())
    }

    fn keep(
        &mut self,
        _: &Received,
        asked: request::keep::Reader<'_>,
        mut answer: answer::keep::Builder<'_>,
    ) -> Result<(), Refusal> {
        let place = asked.granted_what().ok_or(Refusal::BadRequest)?;
        let note: Notification = self.caps.take(place, Rights::NOTIFY).ok_or(Refusal::BadRequest)?;
        note.notify(USED).map_err(|_| Refusal::BadRequest)?;
        answer.set_used(USED);
        *self.kept = Some(note);
        Ok(())
    }

    fn nothing(&mut self, _: &Received) -> Result<(), Refusal> {
        *self.kept = None;
        Ok(())
    }

    fn fetch(
        &mut self,
        _: &Received,
        mut answer: answer::fetch::Builder<'_>,
        given: &mut Given<Grant>,
    ) -> Result<(), Refusal> {
        let note = self.kept.as_ref().ok_or(Refusal::BadRequest)?;
        answer.grant_what(given, copied(note, Rights::NOTIFY, 0))?;
        Ok(())
    }
}

/// Answers messages at one exposure and parcels at the other, and returns what it does not need.
extern "C" fn keeper(_: u64) -> ! {
    let (space, mut intake) = (own::vspace(), Intake::new(tray(), WINDOW, 2));
    let copy = Buffer::make(&space, &Frame::at(COPY), TRAY_PAGES, FROM);
    let Ok(mut copy) = copy else { panic!("no memory to copy to: {copy:?}") };
    let mut kept: Option<Notification> = None;
    // Each message gets slots that were never used, so no call waits for an empty slot.
    let mut slots = (0..).map(|n| offer(Cap(SLOTS.0 + n * 4 % SLOT_COUNT), 4));
    let mut answer = None;
    loop {
        utcb::current().listen(slots.next().unwrap_or(abi::Listening::NOT));
        let opened = intake.open();
        let event = match &answer {
            None => recv(),
            Some(message) => reply_recv(message),
        };
        let (Ok(Event::Call(call)), Ok(())) = (event, opened) else { panic!("the keeper heard {event:?}") };
        let mut caps = Caps::of(&call.message);
        let mut before = kept.as_ref().map(Handle::again);
        let mut keeper = Keeper { caps: &mut caps, kept: &mut kept };
        let reply = if call.exposure == MAIL {
            let Ok(parcel) = intake.take(&space, &call.message) else { panic!("no parcel: {call:?}") };
            let reply = with_parcel(&parcel, copy.bytes_mut(), |bytes| serve(&mut keeper, &call, bytes));
            let given_back = match parcel {
                Parcel::Copied(_) => Ok(()),
                Parcel::Moved(buffer, _) => intake.give_back(&space, buffer),
                Parcel::Shared(view, _) => intake.give_back_view(&space, view),
            };
            assert!(given_back.is_ok(), "giving back: {given_back:?}");
            reply.unwrap_or_else(|| panic!("a parcel is longer than the tray"))
        } else {
            with_bytes(&call.message, |bytes| serve(&mut keeper, &call, bytes))
        };
        // Deletes what it kept and has no more, and what it was sent and did not take.
        if let Some(old) = before.take_if(|old| kept.as_ref() != Some(old)) {
            let _ = own::cnode().delete(old.cap());
        }
        caps.discard();
        answer = Some(reply);
    }
}

fn serve(keeper: &mut Keeper<'_>, call: &Received, bytes: &[u8]) -> Message {
    echo::serve(keeper, call, call.message.label, bytes, |answer, grants| {
        put_giving(echo::ANSWER, answer, grants)
    })
}

/// Writes all of the tray, tries to get write access to the memory that a letter was sent from, and
/// returns the result.
extern "C" fn scribbler(_: u64) -> ! {
    let mut event = recv();
    loop {
        let Ok(Event::Call(_)) = event else { panic!("the scribbler heard {event:?}") };
        tray().iter().for_each(|word| word.store(u64::MAX, Relaxed));
        let allowed = own::vspace().protect_pooled(Pooled::new(FROM, 1), Access::Write);
        let error = allowed.err().map_or(0, |refusal| refusal.error as u64);
        event = reply_recv(&Message::new(0, [error, 0, 0, 0]));
    }
}

/// Answers empty requests with its only page. It has the page again when its caller has unmapped
/// it.
extern "C" fn bearer(_: u64) -> ! {
    let mut event = recv();
    loop {
        let Ok(Event::Call(call)) = event else { panic!("the bearer heard {event:?}") };
        let page = Buffer::make(&own::vspace(), &Frame::at(COPY), 1, FROM);
        assert!(page.is_ok(), "somebody has the page still: {page:?}");
        let mut keeper = Keeper { caps: &mut Caps::default(), kept: &mut None };
        let answer = with_bytes(&call.message, |bytes| serve(&mut keeper, &call, bytes));
        utcb::current().send_ranges(&[PageRange::new(PageMode::Move, FROM, 1)]);
        event = reply_recv(&answer.with_pages());
    }
}

// --- the tests -----------------------------------------------------------------------------------

struct Stage {
    group: Group,
    keeper: Process,
}

impl Stage {
    fn client(&self) -> echo::Client<Line> {
        echo::Client(Line::to(self.group.exposure(TALK)))
    }

    /// Whether the keeper's process has a capability of this object.
    fn has(&self, note: &Notification) -> Result<bool, Wrong> {
        Ok(self.keeper.holds(note, Rights::NONE)?.is_some())
    }
}

fn stage(lab: &mut Lab<'_>, cpu: u32) -> Result<Stage, Wrong> {
    let place = lab.process(false)?;
    let group = lab.group()?;
    let tray: Frame = lab.nursery.make(12 | TRAY_PAGES << 8)?;
    own::vspace().map(&tray, TRAY, Access::Write)?;
    let child = lab.child(place)?;
    child.vspace.map(&tray, TRAY, Access::Write)?;
    let keeper_process = child.process.again();
    let room: Frame = lab.nursery.make(12 | TRAY_PAGES << 8)?;
    user_rt::invoke::transfer(room, lab.child(place)?.cnode.slot(COPY))?;
    let task = lab.task(&Wanted { place, cpu, ..Wanted::default() }, keeper, 0)?.task;
    group.expose_task(TALK, &task)?;
    group.expose_task(MAIL, &task)?;
    task.resume()?;
    let wanted = Wanted { place: Place::Own, cpu: lab.cpus - 1 - cpu, ..Wanted::default() };
    let task = lab.task(&wanted, scribbler, 0)?.task;
    group.expose_task(SCRIBBLER, &task)?;
    task.resume()?;
    Ok(Stage { group, keeper: keeper_process })
}

/// Returns the CPUs on which the keeper is tested.
fn cpus(lab: &Lab<'_>) -> impl Iterator<Item = u32> + use<> {
    [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 })
}

fn heard<R>(answer: Result<R, Failure<Refusal, user_rt::Refusal>>) -> Result<R, Wrong> {
    answer.map_err(|failure| Wrong::Of(alloc::format!("the keeper: {failure:?}")))
}

/// Lets the keeper keep a grant. Returns the bits that the keeper used it with.
fn keep(stage: &Stage, grant: Grant) -> Result<u64, Failure<Refusal, user_rt::Refusal>> {
    stage.client().keep(|mut keep, given| keep.grant_what(given, grant), |answer| Ok(answer.get_used()))
}

fn typed_messages_carry_capabilities(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let stage = stage(lab, cpu)?;
        let sum = stage.client().add(
            |mut add| {
                add.set_left(40);
                add.set_right(2);
            },
            |answer| Ok(answer.get_sum()),
        );
        expect_eq!(heard(sum)?, 42, "on CPU {cpu}: words alone");
        let note: Notification = lab.nursery.make(0)?;
        let used = keep(&stage, copied(&note, Rights::NOTIFY | Rights::GRANT, 0));
        expect_eq!(heard(used)?, USED, "on CPU {cpu}: a copy");
        expect_eq!(note.poll()?, USED, "on CPU {cpu}: what the copy was used for");
        expect!(stage.has(&note)?, "the keeper has kept the copy");
        // The capability returns with an answer.
        let slot = lab.nursery.take_slot()?;
        utcb::current().listen(offer(slot, 1));
        let fetched: Option<Notification> = heard(stage.client().fetch(|answer, caps| {
            Ok(answer.granted_what().and_then(|place| caps.take(place, Rights::NOTIFY)))
        }))?;
        expect_eq!(fetched, Some(Notification::at(slot)), "on CPU {cpu}: what was fetched");
        Notification::at(slot).notify(3)?;
        expect_eq!(note.poll()?, 3, "on CPU {cpu}: it is a capability of the same object");
        // After a move the sender does not have it.
        let other = lab.nursery.take_slot()?;
        copy(&note, own::cnode().slot(other), Rights::ALL, 0)?;
        expect_eq!(heard(keep(&stage, moved(Notification::at(other))))?, USED, "on CPU {cpu}: moved");
        expect!(own::cnode().inspect(other)?.is_none(), "on CPU {cpu}: where it was");
        expect_eq!(note.poll()?, USED, "on CPU {cpu}: what was moved has been used");
        heard(stage.client().nothing())?;
        expect!(!stage.has(&note)?, "on CPU {cpu}: it has nothing any more");
        lab.reset()?;
    }
    Ok(())
}

/// Sends a request to keep something, with a pointer and these capabilities. Returns whether it was
/// refused.
fn forged(stage: &Stage, pointer: u64, grants: &[Grant]) -> Result<bool, Wrong> {
    let mut buffer = Words::<8>::zeroed();
    let mut given = Given::nothing();
    let fill =
        |request: request::Builder<'_>, given: &mut Given<()>| request.init_keep().grant_what(given, ());
    let bytes = compose_giving_in::<request::Owned, (), Full>(buffer.bytes_mut(), &mut given, fill);
    let bytes = bytes.map_err(|Full| Wrong::Of("one capability is too many".into()))?;
    let words = protocols::words_of(&buffer.bytes()[..bytes]);
    let honest = protocols::capability::pointer(0);
    let forged = Words::<8>::of(words.map(|word| if word == honest { pointer } else { word }));
    let reply =
        stage.group.exposure(TALK).call(&put_giving(echo::LABEL, &forged.bytes()[..bytes], grants))?;
    let refused = with_bytes(&reply, |bytes| -> Result<bool, capnp::Error> {
        let message = open(bytes);
        let answer = message.get_root::<answer::Reader<'_>>()?;
        Ok(matches!(answer.which(), Ok(answer::Refused(Ok(Refusal::BadRequest)))))
    });
    refused.map_err(|error| Wrong::Of(alloc::format!("an answer that is none: {:?}", error.kind)))
}

fn pointers_without_capabilities_are_refused(lab: &mut Lab<'_>) -> Outcome {
    let place = protocols::capability::pointer;
    for cpu in cpus(lab) {
        let stage = stage(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        let frame: Frame = lab.nursery.make(12)?;
        let good = copied(&note, Rights::NOTIFY | Rights::GRANT, 0);
        for (what, pointer, grants) in [
            ("nothing came", place(0), &[] as &[Grant]),
            ("a place behind those that came", place(1), &[good]),
            ("the last place that there could be", place(u32::MAX), &[good]),
            ("no pointer", 0, &[good]),
            ("a pointer to itself", 0xffff_fffc, &[good]),
            ("an object of another type", place(0), &[copied(&frame, Rights::ALL, 0)]),
            ("a right that is missing", place(0), &[copied(&note, Rights::GRANT, 0)]),
        ] {
            expect!(forged(&stage, pointer, grants)?, "on CPU {cpu}: {what} was taken for a capability");
            let kept = !grants.is_empty() && utcb::current().fate(0) != Some(Fate::Arrived);
            expect!(!kept, "on CPU {cpu}: {what}: it did not arrive");
            expect!(!stage.has(&note)?, "on CPU {cpu}: {what}: it is still there");
            expect_eq!(stage.keeper.holds(&frame, Rights::NONE)?, None, "on CPU {cpu}: {what}");
            expect_eq!(
                note.poll().err().map(|refusal| refusal.error),
                Some(Error::WouldBlock),
                "on CPU {cpu}: {what}: it was used"
            );
        }
        // The capabilities of the message before are at no place of this one.
        expect!(!forged(&stage, place(0), &[good])?, "on CPU {cpu}: an honest one");
        expect!(forged(&stage, place(0), &[])?, "on CPU {cpu}: a place in the list before");
        lab.reset()?;
    }
    Ok(())
}

/// Writes a letter with that many lines, an attachment of that many bytes, and a capability.
fn compose(
    letter: letter::Builder<'_>,
    given: &mut Given<Grant>,
    (lines, bytes): (u32, u32),
    note: Option<&Notification>,
) -> Result<(), Full> {
    let mut letter = letter;
    letter.set_subject("of pages");
    if let Some(note) = note {
        letter.grant_enclosed(given, copied(note, Rights::NOTIFY, 0))?;
    }
    let mut list = letter.reborrow().init_lines(lines);
    for number in 0..lines {
        let mut line = list.reborrow().get(number);
        line.set_number(number);
        line.set_text("four words of text");
    }
    letter.init_attachment(bytes).iter_mut().zip(0..).for_each(|(to, at): (_, u32)| *to = byte(at));
    Ok(())
}

fn byte(at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// The keeper's report on a letter: lines, bytes, sum twice; where it was read; which task was kept
/// from writing.
type Told = ([u64; 4], u64, u64);

fn told(answer: answer::letter::Reader<'_>) -> capnp::Result<Told> {
    let digest = answer.get_digest()?;
    let sums = [u64::from(digest.get_lines()), digest.get_bytes(), digest.get_sum(), digest.get_again()];
    Ok((sums, digest.get_place(), u64::from(digest.get_denied())))
}

fn should(lines: u32, bytes: u32) -> [u64; 4] {
    let sum = (0..bytes).map(|at| u64::from(byte(at)) * u64::from(at + 1)).sum();
    [u64::from(lines), u64::from(lines) * 18 + u64::from(bytes), sum, sum]
}

fn letters_in_words(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let stage = stage(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        for (lines, bytes) in [(0, 0), (1, 9), (5, 100), (7, 64)] {
            let fill = |letter: request::letter::Builder<'_>, given: &mut Given<Grant>| {
                compose(letter.init_letter(), given, (lines, bytes), Some(&note))
            };
            let (sums, ..) = heard(stage.client().letter(fill, told))?;
            expect_eq!(sums, should(lines, bytes), "on CPU {cpu}: {lines} lines and {bytes} bytes");
            expect_eq!(note.poll()?, ENCLOSED, "on CPU {cpu}: what was enclosed");
        }
        lab.reset()?;
    }
    Ok(())
}

/// Reads the keeper's answer to a parcel.
fn read_answer(reply: &Message) -> Result<Told, Wrong> {
    let answer = with_bytes(reply, |bytes| -> Result<Option<Told>, capnp::Error> {
        let message = open(bytes);
        match message.get_root::<answer::Reader<'_>>()?.which()? {
            answer::Letter(letter) => Ok(Some(told(letter)?)),
            _ => Ok(None),
        }
    });
    match answer {
        Ok(Some(told)) => Ok(told),
        other => Err(Wrong::Of(alloc::format!("not the answer to a letter: {}", other.is_ok()))),
    }
}

/// Bytes of a line of a letter.
const LINE_BYTES: u32 = 40;

/// How a letter is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Moved,
    Shared,
    Tray,
}

/// Sends a letter that nearly fills its pages, with a capability. Returns the keeper's report, and
/// the expected one.
fn mail(lab: &mut Lab<'_>, stage: &Stage, way: Way, note: &Notification) -> Result<(Told, [u64; 4]), Wrong> {
    let pages = if way == Way::Tray { REMAP_FROM_SEEN - 1 } else { REMAP_FROM_SEEN };
    let frame: Frame = lab.nursery.make(12 | pages << 8)?;
    let mut buffer = Buffer::make(&own::vspace(), &frame, pages, FROM)?;
    let (lines, bytes) = (200, (pages - 1) as u32 * PAGE_SIZE as u32 - 200 * LINE_BYTES + 1000);
    let fill = |request: request::Builder<'_>, given: &mut Given<Grant>| {
        compose(request.init_letter().init_letter(), given, (lines, bytes), Some(note))
    };
    let written = write::<request::Owned>(echo::LABEL, &mut buffer, fill);
    let Ok((length, true)) = written else { return Err(Wrong::Of("the letter has nothing".into())) };
    expect!(length > (pages - 1) * PAGE_SIZE, "{length} bytes are {pages} pages");
    let post = Post::new(stage.group.exposure(MAIL), tray(), Seen::ByOthers).with_caps();
    let reply = if way == Way::Shared {
        match post.share(buffer, length, echo::LABEL, [0; 3]) {
            Ok((reply, view)) => {
                // The keeper has unmapped it: it can be written again.
                let Ok(buffer) = view.into_buffer(&own::vspace()) else {
                    return Err(Wrong::Of("it is still shared".into()));
                };
                buffer.give_back(&own::vspace())?;
                reply
            }
            Err(unshared) => return Err(unshared.refusal.into()),
        }
    } else {
        let sent = post.send(buffer, length, echo::LABEL, [0; 3]).map_err(|unsent| unsent.refusal)?;
        expect_eq!(sent.kept.is_some(), way == Way::Tray, "whether the sender has its buffer");
        if let Some(buffer) = sent.kept {
            buffer.give_back(&own::vspace())?;
        }
        sent.reply
    };
    Ok((read_answer(&reply)?, should(lines, bytes)))
}

fn letters_in_pages_are_read_where_they_are(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let stage = stage(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        for (way, denied) in [(Way::Moved, Error::NoPage), (Way::Shared, Error::InUse)] {
            let ((sums, place, hindrance), wanted) = mail(lab, &stage, way, &note)?;
            expect_eq!(sums, wanted, "on CPU {cpu}: {way:?}");
            expect!((WINDOW..WINDOW + BYTES_MAX).contains(&place), "{way:?}: it was read at {place:#x}");
            expect_eq!(hindrance, denied as u64, "on CPU {cpu}: {way:?}: writing where it came from");
            expect_eq!(note.poll()?, ENCLOSED, "on CPU {cpu}: {way:?}: what was enclosed");
        }
        lab.reset()?;
    }
    Ok(())
}

/// While the keeper reads a letter, the sender's process overwrites the memory that it came from.
fn letters_that_are_still_written_are_copied_first(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let stage = stage(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        let ((sums, place, hindrance), wanted) = mail(lab, &stage, Way::Tray, &note)?;
        expect_eq!(sums, wanted, "on CPU {cpu}");
        expect!((FROM..FROM + TRAY_PAGES * PAGE_SIZE).contains(&place), "it was read at {place:#x}");
        expect_eq!(hindrance, 0, "on CPU {cpu}: the sender has its pages");
        expect!(
            tray().iter().all(|word| word.load(Relaxed) == u64::MAX),
            "on CPU {cpu}: the memory that it came by was not overwritten"
        );
        expect_eq!(note.poll()?, ENCLOSED, "on CPU {cpu}: what was enclosed");
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a window that is open for something else is unchanged after an answer that brought
/// pages.
fn pages_of_an_answer_do_not_stay(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let place = lab.process(false)?;
        let group = lab.group()?;
        let page: Frame = lab.nursery.make(12)?;
        user_rt::invoke::transfer(page, lab.child(place)?.cnode.slot(COPY))?;
        let task = lab.task(&Wanted { place, cpu, ..Wanted::default() }, bearer, 0)?.task;
        group.expose_task(BEARER, &task)?;
        task.resume()?;
        let client = echo::Client(Line::to(group.exposure(BEARER)));
        utcb::current().open_window(WINDOW, PAGE_SIZE);
        for time in 1..=3 {
            heard(client.nothing())?;
            let stayed = own::vspace().drop_pages(Pooled::new(WINDOW, 1)).is_ok();
            expect!(!stayed, "on CPU {cpu}: the page of answer {time} stayed in the window");
        }
        utcb::current().open_window(0, 0);
        lab.reset()?;
    }
    Ok(())
}
