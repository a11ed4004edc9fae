//! Chooses runs by a filter, and reads what they have under some keys: from columns where those say all, else from the
//! runs themselves.

use std::borrow::Cow;
use std::collections::HashSet;

use rayon::prelude::*;
use serde_json::Value;

use super::run_filter::{Bound, Filter, Key};
use crate::id::ObjectId;
use crate::store::{Found, RowRef, Runs};

/// So many spans are looked at together, at most, by those who want the newest alone.
const MAX_SPANS_AT_ONCE: usize = 16;

/// Calls `take` for each run of a span that fits, with what it has under the keys.
pub fn each(
    runs: &Runs,
    span: usize,
    filter: &Filter,
    keys: &[Key],
    mut take: impl FnMut(RowRef, &[Option<Cow<'_, Value>>]),
) {
    let blocks = runs.blocks_of(span);
    let bound: Vec<Option<Bound<'_>>> =
        blocks.iter().map(|block| Bound::new(filter, keys, block.as_deref()?)).collect();
    let is_over = |bound: &Option<Bound<'_>>| bound.as_ref().is_some_and(|bound| bound.is_empty() && !bound.has_slow());
    if matches!(bound.as_slice(), [one] if is_over(one)) && runs.is_plain(span) {
        return;
    }
    for row in 0..runs.rows_in(span) {
        let place = RowRef { span: span as u32, row: row as u32 };
        if let Found::InBlock { block, row } = runs.find(span, row)
            && let Some(Some(bound)) = bound.get(block)
            && !bound.is_slow(row)
        {
            if bound.holds(row) {
                take(place, &bound.values(row));
            }
            continue;
        }
        let Some(run) = runs.run(place) else { continue };
        if filter.matches(&run) {
            let values: Vec<_> = keys.iter().map(|key| key.value(&run).map(Cow::Owned)).collect();
            take(place, &values);
        }
    }
}

/// The runs of a span that fit, in order.
pub fn rows_in(runs: &Runs, span: usize, filter: &Filter) -> Vec<RowRef> {
    let mut rows = Vec::new();
    each(runs, span, filter, &[], |row, _| rows.push(row));
    rows
}

/// The runs that fit, in order.
pub fn chosen(runs: &Runs, filter: &Filter) -> Vec<RowRef> {
    let spans: Vec<Vec<RowRef>> = (0..runs.spans()).into_par_iter().map(|span| rows_in(runs, span, filter)).collect();
    spans.concat()
}

/// The runs that fit, from the newest to the oldest. No more spans are looked at than are asked for, or a few more.
pub fn chosen_from_newest<'r>(runs: &'r Runs, filter: &'r Filter) -> impl Iterator<Item = RowRef> + 'r {
    let (mut end, mut at_once) = (runs.spans(), 1);
    let groups = std::iter::from_fn(move || {
        let start = end.saturating_sub(at_once);
        let rows = (start..end).into_par_iter().map(|span| rows_in(runs, span, filter)).collect::<Vec<_>>();
        let is_done = end == 0;
        (end, at_once) = (start, MAX_SPANS_AT_ONCE.min(at_once * 2));
        (!is_done).then(|| rows.concat())
    });
    groups.flat_map(|rows| rows.into_iter().rev())
}

/// The distinct snapshots of all runs, in the order of the first run of each.
pub fn distinct_snapshots(runs: &Runs) -> Vec<ObjectId> {
    let (all, keys) = (Filter::of(None, None), [Key::field("snapshot")]);
    let of_span = |span: usize| {
        let (mut found, mut last) = (Vec::new(), String::new());
        each(runs, span, &all, &keys, |_, values| {
            // Runs of one snapshot mostly follow each other.
            let Some(text) = values.iter().flatten().find_map(|value| value.as_str()).filter(|text| *text != last)
            else {
                return;
            };
            text.clone_into(&mut last);
            found.extend(text.parse::<ObjectId>());
        });
        found
    };
    let found: Vec<Vec<ObjectId>> = (0..runs.spans()).into_par_iter().map(of_span).collect();
    let mut seen = HashSet::new();
    found.into_iter().flatten().filter(|id| seen.insert(*id)).collect()
}
