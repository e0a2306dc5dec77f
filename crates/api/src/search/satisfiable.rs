//! Conditions that exclude each other, or are beyond what the market takes: a search with them could find nothing, whatever is
//! listed, and is refused.

use domain::{
    money::UsdMicros,
    offer::{MAX_DISK_GB, MAX_DISK_PRICE, MAX_DURATION, MAX_NETWORK_PRICE, MAX_NOTICE, MAX_PRICE},
    time::Seconds,
};
use market::{Field, Job, Names, Set, Test};

use crate::{
    Problem,
    provider::{MAX_CPU_CORES, MAX_PORTS, MAX_RAM_GB},
};

/// The most GPUs of an offer.
const MAX_GPUS: u64 = 64;
/// The lowest price.
const MIN_PRICE: UsdMicros = UsdMicros::new(1);

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
            // one that asks for what nothing can be says more than that it has no company
            let beyond = || same().filter(|(_, other)| is_beyond(test.field, &other.set));
            return Err(match bounds(test.field) {
                Some(detail) if beyond().next().is_some() => {
                    given.refused(detail, beyond().map(|(place, _)| place))
                }
                Some(_) | None => {
                    let name = test.field.as_str();
                    let detail = format!("no value of {name} satisfies all of its conditions");
                    given.refused(detail, same().map(|(place, _)| place))
                }
            });
        }
    }
    Ok(())
}

/// Refuses a job that no offer takes, and less for it than any costs.
///
/// # Errors
/// [`crate::Code::ValidationFailed`], with the parameter.
pub(super) fn job(job: &Job, total_most: Option<u64>) -> Result<(), Problem> {
    if job.duration_s > MAX_DURATION.get() {
        return Err(Problem::invalid("?hours", durations()));
    }
    if job.disk_gb > MAX_DISK_GB {
        return Err(Problem::invalid("?disk_gb", disks()));
    }
    if total_most.is_some_and(|most| most < MIN_PRICE.get()) {
        let detail = format!("no job costs less than {MIN_PRICE} dollars");
        return Err(Problem::invalid("?total_lte", detail));
    }
    Ok(())
}

/// The least and the largest value that a fact can have, as far as the market bounds what it takes of offers and machines.
fn range(field: Field) -> (u64, u64) {
    let price = MAX_PRICE.usd().get();
    match field {
        Field::GpuCount => (1, MAX_GPUS),
        Field::Price => (MIN_PRICE.get(), price),
        Field::Hourly => (MIN_PRICE.get(), price.saturating_mul(MAX_GPUS)),
        Field::DiskPrice => (0, MAX_DISK_PRICE.get()),
        Field::UpPrice | Field::DownPrice => (0, MAX_NETWORK_PRICE.get()),
        // what is sold may be less than what a machine is registered with
        Field::CpuCores => (0, MAX_CPU_CORES.into()),
        Field::Ram => (0, MAX_RAM_GB.into()),
        Field::Disk => (0, MAX_DISK_GB.into()),
        Field::Ports => (0, MAX_PORTS.into()),
        Field::Reliability => (0, 10_000),
        Field::MinDuration | Field::MaxDuration => (1, MAX_DURATION.get().into()),
        Field::Notice => (0, MAX_NOTICE.get().into()),
        Field::Tier | Field::Verification => (0, 2),
        // slices of GPUs (`mig`) are not taken
        Field::Isolation => (0, 1),
        Field::Form => (0, 4),
        Field::Vendor | Field::Datacenter | Field::StaticIp | Field::Templates | Field::Rented => {
            (0, 1)
        }
        // what agents measure and newer catalogs have is not bounded, nor is time
        Field::Vram
        | Field::TotalVram
        | Field::TotalFlops
        | Field::ComputeCapability
        | Field::FlopsUsd
        | Field::DiskSpeed
        | Field::Pcie
        | Field::Up
        | Field::Down
        | Field::Cuda
        | Field::Ready
        | Field::Until
        | Field::Updated => (0, u64::MAX),
    }
}

/// Whether a condition alone asks for what lies outside of the range.
fn is_beyond(field: Field, set: &Set) -> bool {
    let ((low, high), (least, most)) = (set.bounds(), range(field));
    low <= high && (low > most || high < least)
}

fn days(time: Seconds) -> String {
    format!("{time} ({} days)", time.get() / 86_400)
}

fn durations() -> String {
    format!("no rental is shorter than {} or longer than {}", Seconds::ONE, days(MAX_DURATION))
}

fn disks() -> String {
    format!("no offer has more than {MAX_DISK_GB} GB of disk")
}

/// A fact's range as a refusal tells it; `None` where no condition can be beyond it.
fn bounds(field: Field) -> Option<String> {
    Some(match field {
        Field::GpuCount => format!("no offer has fewer than 1 GPU or more than {MAX_GPUS}"),
        Field::Price => {
            format!("no GPU costs less than {MIN_PRICE} or more than {MAX_PRICE} dollars an hour")
        }
        Field::Hourly => {
            let most = UsdMicros::new(range(field).1);
            format!("no rental costs less than {MIN_PRICE} or more than {most} dollars an hour")
        }
        Field::DiskPrice => {
            format!("no disk costs more than {MAX_DISK_PRICE} dollars per GB and month")
        }
        Field::UpPrice | Field::DownPrice => {
            format!("no network costs more than {MAX_NETWORK_PRICE} dollars per GB")
        }
        Field::CpuCores => format!("no machine has more than {MAX_CPU_CORES} CPU cores"),
        Field::Ram => format!("no machine has more than {MAX_RAM_GB} GB of memory"),
        Field::Disk => disks(),
        Field::Ports => format!("no machine has more than {MAX_PORTS} ports"),
        Field::Reliability => "no reliability is above 1".to_owned(),
        Field::MinDuration | Field::MaxDuration => durations(),
        Field::Notice => format!("no offer has a longer notice than {}", days(MAX_NOTICE)),
        Field::Isolation => "slices of GPUs (mig) are not offered at present".to_owned(),
        Field::Vram
        | Field::TotalVram
        | Field::Vendor
        | Field::TotalFlops
        | Field::Form
        | Field::ComputeCapability
        | Field::FlopsUsd
        | Field::DiskSpeed
        | Field::Pcie
        | Field::Up
        | Field::Down
        | Field::Cuda
        | Field::Ready
        | Field::Until
        | Field::Tier
        | Field::Verification
        | Field::Datacenter
        | Field::StaticIp
        | Field::Templates
        | Field::Rented
        | Field::Updated => return None,
    })
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
            (Field::Vram, vec![span(0, u64::MAX), none(&[0, u64::MAX])], true),
            (Field::Price, vec![span(0, 0)], false),
            (Field::Price, vec![span(1_000_000_000, u64::MAX)], true),
            (Field::Price, vec![span(1_000_000_001, u64::MAX)], false),
            (Field::MaxDuration, vec![span(2_678_400, u64::MAX)], true),
            (Field::MaxDuration, vec![span(2_678_401, u64::MAX)], false),
            (Field::Isolation, vec![Set::OneOf(all(&[2, 1]))], true),
            (Field::Isolation, vec![Set::OneOf(all(&[2]))], false),
            (Field::Isolation, vec![none(&[0, 1])], false),
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
    fn a_condition_that_is_beyond_the_market_is_pointed_at_alone_with_the_bound() {
        let told = |field, sets: Vec<Set>| {
            let conditions: Vec<Test> = sets.into_iter().map(|set| Test { field, set }).collect();
            let body = tests(&conditions, Given(&["one", "two"])).unwrap_err().body("/", "r");
            let errors = body["errors"].as_array().unwrap().iter();
            let pointers: Vec<String> =
                errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect();
            (pointers.join(" "), body["detail"].as_str().unwrap().to_owned())
        };
        let long = "no rental is shorter than 1 s or longer than 2678400 s (31 days)";
        let dear = "no GPU costs less than 0.000001 or more than 1000.000000 dollars an hour";
        let none = "no value of price satisfies all of its conditions";
        for (field, sets, pointers, detail) in [
            (Field::MaxDuration, vec![Set::at_least(3_000_000)], "?one", long),
            (Field::MinDuration, vec![Set::at_most(60), Set::at_most(0)], "?two", long),
            (Field::Price, vec![Set::at_most(0), Set::at_least(5)], "?one", dear),
            (Field::Price, vec![Set::at_least(6), Set::at_most(5)], "?one ?two", none),
            // what is equal to no number of micro-dollars is beyond nothing
            (Field::Price, vec![Set::OneOf(vec![])], "?one", none),
        ] {
            assert_eq!(told(field, sets), (pointers.to_owned(), detail.to_owned()));
        }
        for field in Field::ALL {
            // whatever number may be asked for beyond a bound is told with it
            let (least, most) = range(*field);
            assert!(most >= least);
            let is_number = most > 4 && most < u64::MAX;
            assert!(!is_number || bounds(*field).is_some(), "{field:?}");
        }
    }

    #[test]
    fn a_job_that_no_offer_takes_is_refused() {
        let longest = Job { duration_s: 2_678_400, disk_gb: 1_048_576, ..Job::default() };
        assert!(job(&longest, Some(1)).is_ok());
        for (asked, most, pointer) in [
            (Job { duration_s: 2_678_401, ..longest }, None, "?hours"),
            (Job { disk_gb: 1_048_577, ..longest }, None, "?disk_gb"),
            (longest, Some(0), "?total_lte"),
        ] {
            let body = job(&asked, most).unwrap_err().body("/", "r");
            assert_eq!(body["errors"][0]["pointer"], pointer);
        }
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
