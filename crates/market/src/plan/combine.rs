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

/// Which machines give how many GPUs, so that it is `wanted` in all of at most `most` machines, at the least cost and, of
/// ways that cost the same, with the fewest machines; `None` if that cannot be made up.
pub(super) fn combine(
    machines: &[Vec<Choice>],
    wanted: u16,
    most: usize,
) -> Option<Vec<(usize, u8)>> {
    #[cfg(test)]
    TRIED.with(|tried| tried.set(tried.get().saturating_add(1)));
    let most = most.min(machines.len());
    let width = usize::from(wanted).saturating_add(1);
    // by the number of machines that are taken: the least cost of exactly so many GPUs from the machines so far
    let mut least: Vec<Vec<Option<u64>>> = vec![vec![None; width]; most.saturating_add(1)];
    *least.first_mut()?.first_mut()? = Some(0);
    // what each machine gives in the cheapest way to each of these
    let mut gives: Vec<Vec<Vec<u8>>> = Vec::with_capacity(machines.len());
    for choices in machines {
        let mut given = vec![vec![0_u8; width]; least.len()];
        // the most machines first: what one fewer come to is still without this one
        for taken in (1..least.len()).rev() {
            let (fewer, same) = least.split_at_mut(taken);
            if let (Some(fewer), Some(same), Some(given)) =
                (fewer.last(), same.first_mut(), given.get_mut(taken))
            {
                take_one(choices, fewer, same, given);
            }
        }
        gives.push(given);
    }
    let ways = least.iter().enumerate().filter_map(|(taken, by)| Some(((*by.last()?)?, taken)));
    let (_, mut taken) = ways.min()?;
    let mut left = usize::from(wanted);
    let mut chosen = Vec::new();
    for (machine, given) in gives.iter().enumerate().rev() {
        let gpus = given.get(taken)?.get(left).copied()?;
        if gpus > 0 {
            chosen.push((machine, gpus));
            left = left.checked_sub(usize::from(gpus))?;
            taken = taken.checked_sub(1)?;
        }
    }
    chosen.reverse();
    (left == 0).then_some(chosen)
}

/// With one machine more than `fewer` are made of: what is cheaper than the `same` number of machines without it.
fn take_one(choices: &[Choice], fewer: &[Option<u64>], same: &mut [Option<u64>], given: &mut [u8]) {
    for choice in choices {
        let to = same.iter_mut().zip(given.iter_mut()).skip(choice.gpus.into());
        for (before, (place, gives)) in fewer.iter().zip(to) {
            let Some(cost) = before.and_then(|cost| cost.checked_add(choice.total)) else {
                continue;
            };
            if place.is_none_or(|known| cost < known) {
                *place = Some(cost);
                *gives = choice.gpus;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every way, one machine after the other: cost and machines.
    #[expect(clippy::arithmetic_side_effects, reason = "a test")]
    fn plainly(machines: &[Vec<Choice>], wanted: i32, most: usize) -> Option<(u64, usize)> {
        let Some((first, rest)) = machines.split_first() else {
            return (wanted == 0).then_some((0, 0));
        };
        let taken = first.iter().filter(|_| most > 0).filter_map(|choice| {
            let (cost, taken) = plainly(rest, wanted - i32::from(choice.gpus), most - 1)?;
            Some((cost + choice.total, taken + 1))
        });
        taken.chain(plainly(rest, wanted, most)).min()
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(
            machines in proptest::collection::vec(proptest::collection::vec((1_u8..9, 1_u64..50), 0..4), 0..6),
            wanted in 1_u16..20,
            most in 1_usize..7,
        ) {
            let machines: Vec<Vec<Choice>> = machines
                .into_iter()
                .map(|choices| choices.into_iter().map(|(gpus, total)| Choice { gpus, total }).collect())
                .collect();
            let chosen = combine(&machines, wanted, most);
            let cost = chosen.as_ref().map(|chosen| {
                let cost = |(machine, gpus): &(usize, u8)| {
                    let choices = machines[*machine].iter().filter(|choice| choice.gpus == *gpus);
                    choices.map(|choice| choice.total).min().unwrap()
                };
                (chosen.iter().map(cost).sum::<u64>(), chosen.len())
            });
            prop_assert_eq!(cost, plainly(&machines, wanted.into(), most));
            if let Some(chosen) = chosen {
                prop_assert_eq!(chosen.iter().map(|(_, gpus)| u16::from(*gpus)).sum::<u16>(), wanted);
            }
        }
    }
}
