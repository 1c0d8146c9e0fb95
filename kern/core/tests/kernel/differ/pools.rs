//! The contents of event pools, as their processes read them.

use std::collections::BTreeMap;

use abi::MsgInfo;
use abi::events::Event;
use kern_base::events::EventPool;
use kern_base::objects::header_of;
use kern_base::slot::Slot;
use model::{Id, Kind, Place};
use smp::door::Ref;
use smp::host_test;

use super::pair::{Outcome, Pair};
use crate::events::Reader;
use crate::world::dice::Dice;

impl Pair {
    /// Everybody reads all that there is, and gives back some of the room.
    pub fn read_pools(&mut self, dice: &mut Dice) -> Outcome {
        let places = self.locate();
        for id in self.model.ids() {
            let object = &self.model.objects[id.0];
            if object.ended || !matches!(object.kind, Kind::EventPool(_)) {
                continue;
            }
            let Some(slot) = self.reach(&places, id) else { continue };
            let Some(pool) = slot.get().word.load(host_test::pin(0)).get::<EventPool>() else {
                return Err(format!("{id:?} is no pool in the kernel"));
            };
            let kept = dice.of(&[0, 0, 62, 63, 64]);
            self.read_pool(id, pool.get(), kept, &places).map_err(|why| format!("pool {id:?}: {why}"))?;
        }
        if self.tell {
            println!("    pools are read");
        }
        Ok(())
    }

    fn read_pool(
        &mut self,
        id: Id,
        pool: &EventPool,
        kept: u64,
        places: &BTreeMap<Place, Ref<'static, Slot>>,
    ) -> Outcome {
        let next = self.read.get(&id).copied().unwrap_or(0);
        let mut reader = Reader::of(pool, next);
        for expected in core::mem::take(&mut self.model.event_pool_mut(id).events) {
            let Some((found, text)) = reader.read() else {
                return Err(format!("lacks {expected:x?}"));
            };
            let group = match expected.group {
                // Nobody can tell any more.
                Some(group) => self.identity(group, places).unwrap_or(found.group),
                None => 0,
            };
            let (words, sender) = (expected.words, expected.sender);
            let info = MsgInfo::new(words.label, words.count as u8);
            let (exposure, custom) = (expected.exposure, expected.custom);
            let event = Event { info, sender, exposure, custom, group, regs: words.regs };
            if event != found || text != expected.text {
                return Err(format!("{event:x?}, {:x?} in the model; {found:x?}, {text:x?}", expected.text));
            }
        }
        if let Some((found, _)) = reader.read() {
            return Err(format!("has {found:x?}, which nobody sent"));
        }
        self.read.insert(id, reader.next);
        reader.keep(kept);
        self.model.event_pool_mut(id).kept = kept;
        Ok(())
    }

    /// Returns the identity by which receivers know a group.
    fn identity(&self, group: Id, places: &BTreeMap<Place, Ref<'static, Slot>>) -> Option<u64> {
        let word = self.reach(places, group)?.get().word.load(host_test::pin(0));
        header_of(word).map(|header| header.identity())
    }
}
