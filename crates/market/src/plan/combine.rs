//! The cheapest way to make up a number of GPUs from machines, each of which is taken once or not at all.

/// A number of GPUs that a machine can give, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) gpus: u8,
    pub(super) total: u64,
}

#[cfg(test)]
thread_local! {
    /// How often all ways were tried.
    pub(super) static TRIED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Which machines give how many GPUs, so that it is `wanted` in all at the least cost; `None` if that cannot be made up.
pub(super) fn combine(machines: &[Vec<Choice>], wanted: u16) -> Option<Vec<(usize, u8)>> {
    #[cfg(test)]
    TRIED.with(|tried| tried.set(tried.get().saturating_add(1)));
    let width = usize::from(wanted).saturating_add(1);
    // the least cost of exactly so many GPUs from the machines so far
    let mut least: Vec<Option<u64>> = vec![None; width];
    *least.first_mut()? = Some(0);
    // what each machine gives in the cheapest way to each number
    let mut gives: Vec<Vec<u8>> = Vec::with_capacity(machines.len());
    for choices in machines {
        let before = least.clone();
        let mut given = vec![0_u8; width];
        for choice in choices {
            let gpus = usize::from(choice.gpus);
            for (from, to) in (0..width).zip(gpus..width) {
                let Some(cost) = before.get(from).copied().flatten() else { continue };
                let Some(cost) = cost.checked_add(choice.total) else { continue };
                let (Some(place), Some(gives)) = (least.get_mut(to), given.get_mut(to)) else {
                    continue;
                };
                if place.is_none_or(|known| cost < known) {
                    *place = Some(cost);
                    *gives = choice.gpus;
                }
            }
        }
        gives.push(given);
    }
    (*least.last()?)?;
    let mut left = usize::from(wanted);
    let mut chosen = Vec::new();
    for (machine, given) in gives.iter().enumerate().rev() {
        let gpus = given.get(left).copied()?;
        if gpus > 0 {
            chosen.push((machine, gpus));
            left = left.checked_sub(usize::from(gpus))?;
        }
    }
    chosen.reverse();
    (left == 0).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every way, one machine after the other.
    #[expect(clippy::arithmetic_side_effects, reason = "a test")]
    fn plainly(machines: &[Vec<Choice>], wanted: i32) -> Option<u64> {
        let Some((first, rest)) = machines.split_first() else {
            return (wanted == 0).then_some(0);
        };
        let taken = first.iter().filter_map(|choice| {
            Some(plainly(rest, wanted - i32::from(choice.gpus))? + choice.total)
        });
        taken.chain(plainly(rest, wanted)).min()
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(
            machines in proptest::collection::vec(proptest::collection::vec((1_u8..9, 1_u64..50), 0..4), 0..6),
            wanted in 1_u16..20,
        ) {
            let machines: Vec<Vec<Choice>> = machines
                .into_iter()
                .map(|choices| choices.into_iter().map(|(gpus, total)| Choice { gpus, total }).collect())
                .collect();
            let chosen = combine(&machines, wanted);
            let cost = chosen.as_ref().map(|chosen| {
                let cost = |(machine, gpus): &(usize, u8)| {
                    let choices = machines[*machine].iter().filter(|choice| choice.gpus == *gpus);
                    choices.map(|choice| choice.total).min().unwrap()
                };
                chosen.iter().map(cost).sum::<u64>()
            });
            prop_assert_eq!(cost, plainly(&machines, wanted.into()));
            if let Some(chosen) = chosen {
                prop_assert_eq!(chosen.iter().map(|(_, gpus)| u16::from(*gpus)).sum::<u16>(), wanted);
            }
        }
    }
}
