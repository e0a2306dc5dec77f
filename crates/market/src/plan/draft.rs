//! Proposals of what was looked at: one machine, or several of a group.

use domain::quote::JobTotal;

use super::{
    MAX_PARTS, Need, Reason,
    combine::{Choice, combine},
    look::{Candidate, Gathered, Group, Offered, Wish},
    refusals::Refusals,
};
use crate::{query::Job, row::largest};

/// A proposal before its offers are looked up.
pub(super) struct Draft {
    pub(super) parts: Vec<(Offered, u8, JobTotal)>,
    pub(super) total: u64,
}

impl Draft {
    fn new(job: &Job, offers: &[(Offered, u8)]) -> Option<Self> {
        let mut sum = 0_u64;
        let mut parts = Vec::with_capacity(offers.len());
        for (offer, gpus) in offers {
            let total = offer.total(job, *gpus)?;
            sum = sum.checked_add(total.total.get())?;
            parts.push((*offer, *gpus, total));
        }
        Some(Self { parts, total: sum })
    }
}

/// The cheapest proposals of what was found, and for the rest why it is in none.
pub(super) fn drafts(wish: &Wish<'_>, gathered: &mut Gathered) -> Vec<Draft> {
    let Wish { need, job, proposals: limit, .. } = wish;
    let Gathered { whole, groups, refusals, .. } = gathered;
    let gpus = u8::try_from(need.gpus).unwrap_or(u8::MAX);
    let mut drafts: Vec<Draft> =
        whole.values().filter_map(|offer| Draft::new(job, &[(*offer, gpus)])).collect();
    let (several, single): (Vec<_>, Vec<_>) =
        groups.values().partition(|group| group.machines.len() > 1);
    for group in single {
        note_group(refusals, group, Reason::GpuCount);
    }
    let mut groups: Vec<(u64, &Group)> =
        several.into_iter().map(|group| (wish.least_of(&group.machines), group)).collect();
    let first_of = |group: &Group| group.machines.first().map(|one| one.offer.key.1);
    groups.sort_by_key(|(least, group)| (*least, first_of(group)));
    for (least, group) in groups {
        let worst = drafts.get(limit.saturating_sub(1)).map(|worst| worst.total);
        if worst.is_some_and(|worst| least >= worst) {
            break;
        }
        let chosen = match chosen(need, job, &group.machines, least) {
            Ok(chosen) => chosen,
            Err(reason) => {
                note_group(refusals, group, reason);
                continue;
            }
        };
        let offers: Vec<(Offered, u8)> = chosen
            .iter()
            .filter_map(|(which, gpus)| group.machines.get(*which).map(|one| (one.offer, *gpus)))
            .collect();
        let Some(draft) = Draft::new(job, &offers) else { continue };
        if need.budget.is_some_and(|budget| draft.total > budget) {
            note_group(refusals, group, Reason::Budget);
            continue;
        }
        // a single machine was proposed already
        if chosen.len() > 1 {
            drafts.push(draft);
            drafts.sort_by_key(|one| (one.total, one.parts.len()));
            drafts.truncate(*limit);
        }
    }
    drafts
}

/// The cheapest way to what is needed with the machines of a group, by their places in it, or why there is none. It may
/// be over the budget.
fn chosen(
    need: &Need,
    job: &Job,
    group: &[Candidate],
    least: u64,
) -> Result<Vec<(usize, u8)>, Reason> {
    // what can be said without trying all ways
    let mut sizes: Vec<u8> = group.iter().map(|one| largest(one.sizes)).collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let most: u32 = sizes.into_iter().take(MAX_PARTS).map(u32::from).sum();
    if most < need.gpus.into() {
        return Err(Reason::GpuCount);
    }
    if need.budget.is_some_and(|budget| least > budget) {
        return Err(Reason::Budget);
    }
    if let Some(chosen) = combined(job, group, need.gpus) {
        return Ok(chosen);
    }
    let without_disk = Job { disk_gb: 0, ..*job };
    if job.disk_gb > 0 && combined(&without_disk, group, need.gpus).is_some() {
        return Err(Reason::Disk);
    }
    Err(Reason::GpuCount)
}

/// The cheapest way to so many GPUs with the machines of a group, by their places in it.
fn combined(job: &Job, group: &[Candidate], gpus: u16) -> Option<Vec<(usize, u8)>> {
    let choices: Vec<Vec<Choice>> = group.iter().map(|one| choices(job, one)).collect();
    combine(&choices, gpus, MAX_PARTS)
}

fn choices(job: &Job, one: &Candidate) -> Vec<Choice> {
    let sizes =
        (0_u8..64).filter(|bit| (one.sizes >> bit) & 1 == 1).map(|bit| bit.saturating_add(1));
    sizes
        .filter(|gpus| one.offer.has_disk(job, *gpus))
        .filter_map(|gpus| {
            let total = one.offer.total(job, gpus)?;
            Some(Choice { gpus, total: total.total.get() })
        })
        .collect()
}

/// Why a group comes to nothing, for each of it that would have been a part.
fn note_group(refusals: &mut Refusals, group: &Group, reason: Reason) {
    for one in group.machines.iter().filter(|one| !one.whole) {
        refusals.note(one.offer.key, &[reason]);
    }
    for key in group.beyond.iter().copied() {
        refusals.note(key, &[Reason::GpuCount]);
    }
}
