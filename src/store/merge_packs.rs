//! The small steps in which captures keep a store small by themselves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::compaction::CompactionOptions;
use super::{Maintenance, Store};
use crate::error::Result;
use crate::id::ObjectId;
use crate::pack::Pack;
use crate::pack::compression::MERGE_LEVEL;
use crate::pack::format::ObjectKind;

/// So many packs of one tier are merged into one of the next.
const FAN_IN: usize = 8;
/// A step has no more content than this, so that it takes well under a second.
const STEP_RAW_BYTES: usize = 64 << 20;
/// The tier of packs that `gc` writes. Steps leave them alone.
pub const SETTLED_TIER: u8 = 255;

/// What became of the packs folder in a merge, by the stamps of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedPacks {
    /// The packs that have stayed and have durable names; the new one is among them.
    pub there: Vec<u64>,
    /// The packs that were removed: all of their objects are in those that have stayed.
    pub replaced: Vec<u64>,
}

impl Store {
    /// Merges the packs of one tier, if there are enough of them and nobody maintains the store just now.
    ///
    /// What no run needs is kept: it may be of captures under way. So nobody has to be waited for.
    pub fn merge_packs_step(&self) -> Result<MergedPacks> {
        if self.catalog.stamps()?.len() < FAN_IN || !self.may_be_due() || self.step_inputs().is_none() {
            return Ok(MergedPacks::default());
        }
        let Some(maintenance) = self.maintenance(Duration::ZERO)? else { return Ok(MergedPacks::default()) };
        maintenance.finish_deletion()?;
        self.catalog.refresh()?;
        let Some((tier, inputs)) = self.step_inputs() else { return Ok(MergedPacks::default()) };
        // What captures wrote a moment ago is put together as it is; the next step compresses eight times as much at once.
        let gathered = if tier == 0 { self.gather(&inputs, tier + 1, maintenance.temporary())? } else { None };
        let replaced = match gathered {
            Some(gathered) => gathered,
            None => self.merge(&maintenance, &inputs, tier + 1)?,
        };
        // Nothing in it is doubtful: all objects are moved, none to a higher chain position.
        // The folder is flushed before anything is removed, and after this list of it.
        let mut packs = MergedPacks::default();
        for (name, stamp) in self.catalog.listed()? {
            if replaced.contains(&name) { &mut packs.replaced } else { &mut packs.there }.push(stamp);
        }
        maintenance.delete_replaced(&replaced)?;
        Ok(packs)
    }

    /// Compresses the content of `inputs` anew in one pack; the inputs, by name, that it replaces.
    fn merge(&self, maintenance: &Maintenance<'_>, inputs: &[Arc<Pack>], tier: u8) -> Result<Vec<String>> {
        let options = CompactionOptions { level: MERGE_LEVEL, tier, keeps_unreached: true, raises_positions: false };
        let is_snapshot = |object: &&crate::pack::Object| object.kind == ObjectKind::Snapshot;
        let wanted: HashSet<(ObjectKind, u64)> =
            inputs.iter().flat_map(|pack| &pack.objects).map(|object| (object.kind, object.name.key())).collect();
        let mut snapshots = Vec::new();
        for pack in inputs {
            for (ordinal, _) in pack.objects.iter().enumerate().filter(|(_, object)| is_snapshot(object)) {
                let place = super::catalog::Place { pack: Arc::clone(pack), ordinal };
                snapshots.extend(self.take(&place).map(|bytes| ObjectId::of(&bytes)).ok());
            }
        }
        let reached = self.reach(snapshots, |kind, id| wanted.contains(&(kind, id.key())))?;
        Ok(self.compact(inputs, &reached, maintenance.temporary(), options, &())?.replaced)
    }

    /// Whether a tier has enough packs, as far as can be told without opening them.
    fn may_be_due(&self) -> bool {
        let Some(tiers) = self.catalog.kept_tiers() else { return true };
        let mut counts = [0usize; SETTLED_TIER as usize];
        for (tier, raw_bytes) in tiers {
            if raw_bytes <= STEP_RAW_BYTES as u64 / 2
                && let Some(count) = counts.get_mut(usize::from(tier))
            {
                *count += 1;
            }
        }
        counts.iter().any(|count| *count >= FAN_IN)
    }

    /// The lowest tier that has enough packs, and those packs.
    fn step_inputs(&self) -> Option<(u8, Vec<Arc<Pack>>)> {
        let mut tiers: BTreeMap<u8, Vec<Arc<Pack>>> = BTreeMap::new();
        for pack in self.catalog.in_memory() {
            if pack.tier < SETTLED_TIER - 1 && pack.raw_bytes() <= STEP_RAW_BYTES / 2 {
                tiers.entry(pack.tier).or_default().push(pack);
            }
        }
        tiers.into_iter().find_map(|(tier, packs)| {
            if packs.len() < FAN_IN {
                return None;
            }
            let mut bytes = 0;
            let fits = |pack: &Arc<Pack>| {
                bytes += pack.raw_bytes();
                bytes <= STEP_RAW_BYTES
            };
            let packs: Vec<Arc<Pack>> = packs.into_iter().take_while(fits).collect();
            (packs.len() >= FAN_IN / 2).then_some((tier, packs))
        })
    }
}
