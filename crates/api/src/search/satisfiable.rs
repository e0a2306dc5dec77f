//! Conditions that exclude each other: a search with them could find nothing, whatever is listed, and is refused.

use market::{Field, Names, Set, Test};

use crate::Problem;

/// The parameters that conditions are of; those beyond are of `q`.
#[derive(Clone, Copy)]
pub(super) struct Given<'a>(pub(super) &'a [&'static str]);

impl Given<'_> {
    /// A refusal that points at each parameter whose conditions these are.
    fn refused(self, detail: String, conditions: impl Iterator<Item = usize>) -> Problem {
        let mut names: Vec<&str> =
            conditions.map(|place| self.0.get(place).copied().unwrap_or("q")).collect();
        names.sort_unstable();
        names.dedup();
        let problem = Problem::new(crate::Code::ValidationFailed, detail.clone());
        names.iter().fold(problem, |problem, name| problem.at(format!("?{name}"), detail.clone()))
    }
}

/// Refuses tests on a fact that no value satisfies together.
///
/// # Errors
/// [`crate::Code::ValidationFailed`], with the parameters.
pub(super) fn tests(tests: &[Test], given: Given<'_>) -> Result<(), Problem> {
    for (place, test) in tests.iter().enumerate() {
        // all conditions on a fact are looked at with the first of them
        if tests.iter().take(place).any(|before| before.field == test.field) {
            continue;
        }
        let same = || tests.iter().enumerate().filter(|(_, other)| other.field == test.field);
        if !have_a_value(test.field, || same().map(|(_, other)| &other.set)) {
            let name = test.field.as_str();
            let detail = format!("no value of {name} satisfies all of its conditions");
            return Err(given.refused(detail, same().map(|(place, _)| place)));
        }
    }
    Ok(())
}

/// The least and the largest value that a fact can have.
fn range(field: Field) -> (u64, u64) {
    if field == Field::GpuCount {
        (1, 64)
    } else if field == Field::Reliability {
        (0, 10_000)
    } else if matches!(field, Field::Tier | Field::Verification | Field::Isolation) {
        (0, 2)
    } else if field == Field::Form {
        (0, 4)
    } else if matches!(
        field,
        Field::Vendor | Field::Datacenter | Field::StaticIp | Field::Templates | Field::Rented
    ) {
        (0, 1)
    } else {
        (0, u64::MAX)
    }
}

fn have_a_value<'a, I: Iterator<Item = &'a Set>>(field: Field, sets: impl Fn() -> I) -> bool {
    let (least, most) = sets().fold(range(field), |(least, most), set| {
        let (low, high) = set.bounds();
        (least.max(low), most.min(high))
    });
    let holds = |value: &u64| (least..=most).contains(value) && sets().all(|set| set.holds(*value));
    let listed = sets().find_map(|set| match set {
        Set::OneOf(values) => Some(values),
        Set::Span(..) | Set::NoneOf(_) => None,
    });
    if let Some(values) = listed {
        return values.iter().any(holds);
    }
    let Some(span) = most.checked_sub(least) else { return false };
    let excluded = sets().filter_map(|set| match set {
        Set::NoneOf(values) => Some(values),
        Set::Span(..) | Set::OneOf(_) => None,
    });
    let mut excluded: Vec<u64> =
        excluded.flatten().copied().filter(|value| (least..=most).contains(value)).collect();
    excluded.sort_unstable();
    excluded.dedup();
    // one value more than the span is wide
    u64::try_from(excluded.len()).is_ok_and(|excluded| excluded <= span)
}

/// Refuses lists of places that no place satisfies together.
///
/// # Errors
/// [`crate::Code::ValidationFailed`], with the parameters.
pub(super) fn places(lists: &[Names], given: Given<'_>) -> Result<(), Problem> {
    let lies_in = |place: &str, other: &String| {
        place
            .strip_prefix(other.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let satisfies = |place: &String| {
        lists.iter().all(|list| list.names.iter().any(|other| lies_in(place, other)) != list.not)
    };
    let mut wanted = lists.iter().filter(|list| !list.not).peekable();
    // of the names that a place lies in, the narrowest lies in all the others
    if wanted.peek().is_none() || wanted.flat_map(|list| &list.names).any(satisfies) {
        return Ok(());
    }
    let detail = "no place satisfies all conditions on places".to_owned();
    Err(given.refused(detail, 0..lists.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_value_satisfies_is_not_refused() {
        let span = |least, most| Set::Span(least, most);
        let all = |values: &[u64]| values.to_vec();
        let none = |values: &[u64]| Set::NoneOf(values.to_vec());
        for (field, sets, found) in [
            (Field::GpuCount, vec![span(0, 0)], false),
            (Field::GpuCount, vec![span(65, u64::MAX)], false),
            (Field::GpuCount, vec![span(2, 4), Set::OneOf(all(&[1, 4]))], true),
            (Field::GpuCount, vec![span(2, 3), Set::OneOf(all(&[1, 4]))], false),
            (Field::GpuCount, vec![span(2, 3), Set::NoneOf(all(&[2]))], true),
            (Field::GpuCount, vec![span(2, 3), Set::NoneOf(all(&[2, 3]))], false),
            (Field::Reliability, vec![span(10_001, u64::MAX)], false),
            (Field::Tier, vec![Set::OneOf(all(&[0, 1])), Set::NoneOf(all(&[0, 1]))], false),
            (Field::Tier, vec![Set::NoneOf(all(&[0, 1, 2]))], false),
            (Field::Price, vec![span(1, 0)], false),
            (Field::Price, vec![Set::OneOf(all(&[]))], false),
            (Field::Price, vec![Set::NoneOf(all(&[5]))], true),
            (Field::Ram, vec![span(7, 8), none(&[7, 9]), none(&[7])], true),
            (Field::Ram, vec![span(7, 8), none(&[7]), none(&[8, 7])], false),
            (Field::Ram, vec![span(0, u64::MAX), none(&[0, u64::MAX])], true),
        ] {
            assert_eq!(have_a_value(field, || sets.iter()), found, "{field:?} {sets:?}");
        }
    }

    #[test]
    fn every_condition_on_a_fact_that_has_no_value_is_pointed_at_once() {
        let test = |field, set| Test { field, set };
        let conditions = [
            test(Field::Ram, Set::at_least(1)),
            test(Field::Price, Set::at_most(5)),
            test(Field::Ram, Set::at_least(2)),
            test(Field::Price, Set::at_least(6)),
        ];
        assert!(tests(&conditions[..3], Given(&["ram_gb_gte", "price_lte"])).is_ok());
        let refused = tests(&conditions, Given(&["ram_gb_gte", "price_lte"])).unwrap_err();
        let body = refused.body("/", "r");
        let errors = body["errors"].as_array().unwrap().iter();
        let pointers: Vec<_> = errors.map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(pointers, ["?price_lte", "?q"]);
    }

    #[test]
    fn places_are_inside_each_other() {
        let list =
            |names: &str, not| Names { names: names.split(',').map(str::to_owned).collect(), not };
        for (lists, found) in [
            (vec![list("us", false), list("us", true)], false),
            (vec![list("us,de", false), list("us", true)], true),
            (vec![list("us-lax", false), list("us", true)], false),
            (vec![list("us", false), list("us-lax", true)], true),
            (vec![list("us-lax", false), list("us", false)], true),
            (vec![list("us-lax", false), list("us-nyc,de", false)], false),
            (vec![list("us", true), list("de", true)], true),
            (vec![], true),
        ] {
            assert_eq!(places(&lists, Given(&["region"])).is_ok(), found, "{lists:?}");
        }
    }
}
