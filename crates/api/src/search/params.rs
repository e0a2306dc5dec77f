//! The filters and orders of a search.

use domain::{estimate::Hours, id::AccountId, money::UsdMicros, quote::MAX_TRAFFIC_GB};
use market::{
    Field, Form, Isolation, Job, Names, Query, Set, Sort, Test, Tier, Verification,
    language::{self, Lexicon, NoName},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::{
    from_now::{FromNow, until},
    models, places, refused,
    satisfiable::{self, Given},
    seal,
    text::digits,
};
use crate::{
    AppState, Problem, extract::Parameters, problem::internal, provider::is_region,
    views::page_limit,
};

/// Room for the filters of most searches as JSON.
const FILTER_BYTES: usize = 512;
/// The most names of one list.
const MAX_NAMES: usize = 64;

/// Which keys an order has, raised whenever they are others than before: a cursor that an earlier program gave out has a
/// key of its order, and would begin anywhere in this one.
fn order_version(sort: Option<&str>) -> u8 {
    // single precision; it was half precision before
    u8::from(sort == Some("perf_per_usd"))
}

/// What belongs to a page is not told with a search. It is still described, unlike what is skipped for good.
fn of_a_page<T>(_: &T) -> bool {
    true
}

macro_rules! params {
    ($($(#[$meta:meta])* $name:ident: $type:ty,)+) => {
        /// What to search for; what is left out does not matter.
        #[derive(Clone, Default, Deserialize, Serialize, IntoParams, ToSchema)]
        #[serde(deny_unknown_fields, default)]
        #[into_params(parameter_in = Query)]
        pub(crate) struct SearchParams {
            $(
                $(#[$meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(super) $name: Option<$type>,
            )+
            /// The `next_cursor` of the page before.
            #[serde(skip_serializing_if = "of_a_page")]
            pub(super) cursor: Option<String>,
        }

        impl Parameters for SearchParams {
            const NAMES: &'static [&'static str] = &[$(stringify!($name),)+ "cursor"];
        }
    };
}

params! {
    /// One or more models by any of their names, separated by commas. A name of several stands for all of them: `H100` for
    /// every H100, `A100_80GB` for both forms of it.
    #[param(example = "rtx-4090")]
    gpu_model: String,
    /// A rental of exactly so many GPUs. Left out: as many as the offer has free.
    gpu_count: u16,
    /// At least so much memory per GPU, in GB.
    min_vram_gb: u32,
    /// At least so much memory on all GPUs of the rental, in GB.
    min_total_vram_gb: u32,
    /// `pcie`, `sxm`, `nvl`, `oam` or `superchip`; several by commas.
    #[param(example = "sxm")]
    form: String,
    /// At least this CUDA compute capability, such as `8.6`: only NVIDIA's GPUs have one.
    #[param(example = "8.6")]
    compute_capability_gte: String,
    /// At least this CUDA version, such as `12.4`.
    #[param(example = "12.4")]
    cuda_gte: String,
    /// At least so many CPU cores.
    cpu_cores_gte: u32,
    /// At least so much memory in the machine, in GB.
    ram_gb_gte: u32,
    /// At least so much disk to rent, in GB.
    disk_gb_gte: u32,
    /// Disk of at least so many MB per second.
    disk_bw_gte: u32,
    /// PCIe of at least so many MB per second.
    pcie_bw_gte: u32,
    /// At least so many megabits per second from the machine.
    inet_up_gte: u32,
    /// At least so many megabits per second to the machine.
    inet_down_gte: u32,
    /// At least so many ports.
    ports_gte: u32,
    /// In one of these regions or inside them, separated by commas, in any case: `de` finds `de-fra`. A place that is neither of
    /// `/v1/regions` nor a country of ISO 3166 is refused with the nearest, as in `country` and `not_country` (422).
    #[param(example = "de")]
    region: String,
    /// In one of these countries, as two letters, separated by commas.
    #[param(example = "de,se")]
    country: String,
    /// In none of these countries, as two letters, separated by commas.
    #[param(example = "us")]
    not_country: String,
    /// `unverified`, `verified` or `datacenter`; several by commas.
    #[param(example = "verified,datacenter")]
    tier: String,
    /// `unverified`, `verified` or `deverified`; several by commas.
    verification: String,
    /// At least this reliability of the last 30 days, 0 to 1.
    #[param(example = "0.98")]
    reliability_gte: String,
    /// Ready within so many seconds for 95 of 100 rentals.
    #[param(example = "30")]
    ready_p95_lte: String,
    /// `machine` or `gpu`, several by commas; `mig` (slices of GPUs), which nobody can offer at present, is refused alone.
    isolation: String,
    /// Whether the machine's address stays.
    static_ip: bool,
    /// `true`: whose machine runs templates, and can be quoted with a `template`.
    runs_templates: bool,
    /// At least so many seconds of notice before the provider ends a rental.
    notice_s_gte: u32,
    /// `on_demand` (the default), or `reserved`: only offers with a discount for this duration.
    #[param(example = "on_demand")]
    kind: String,
    /// At most so many dollars per GPU and hour, such as `0.70`.
    #[param(value_type = Option<String>, example = "0.70")]
    #[schema(value_type = Option<String>)]
    price_lte: UsdMicros,
    /// At most so many dollars for the job, which `hours` describes.
    #[param(value_type = Option<String>, example = "12.00")]
    #[schema(value_type = Option<String>)]
    total_lte: UsdMicros,
    /// With a shortest rental of at most so many seconds.
    min_duration_lte: u32,
    /// That can be rented for so many seconds.
    duration_s: u32,
    /// That can be quoted now for so many seconds, as far as the offer's end goes.
    available_for_s: u32,
    /// The job: so many hours, as a decimal. Then each offer has a `total`, and offers that do not allow so long are
    /// left out.
    #[param(example = "2")]
    hours: String,
    /// The job's disk in GB; needs `hours`. Offers with less are left out.
    disk_gb: u32,
    /// GB that the job sends; needs `hours`.
    egress_gb: u32,
    /// GB that the job receives; needs `hours`.
    ingress_gb: u32,
    /// Of this account.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    provider: AccountId,
    /// Changed at or after this time (RFC 3339).
    #[param(example = "2026-01-31T12:00:00Z")]
    updated_since: String,
    /// `false` shows offers that are offline or taken, too. Left out, it is what `available` in `q` says, else `true`; where one of
    /// both is `true`, only what can be booked now is shown.
    available: bool,
    /// Conditions as `field op value`, as Vast.ai's search takes them; all must hold beside the other filters.
    #[param(example = "gpu_name=RTX_4090 num_gpus>=2 dph<0.5 reliability>0.98 geolocation in [DE,SE]")]
    q: String,
    /// Tokens per second that a GPU makes with your model, whichever it is, or by GPU model:
    /// `h100-sxm:3000,rtx-4090:1550`. Each offer then has `per_million_tokens`: null where no speed is given for its model.
    #[param(example = "1550")]
    tokens_per_s: String,
    /// `price` (the default), `total` (for the job), `perf_per_usd` (single precision, by the makers' data sheets),
    /// `per_million_tokens`, `reliability`, `ready` or `-created` (newest first). What is not known comes last.
    #[param(example = "total")]
    sort: String,
    /// 1 to 200; 50 if left out.
    limit: u16,
}

/// A decimal number times `scale`. Where it has more digits than the fact, the least value above and the largest below are
/// what bounds mean.
struct Decimal {
    units: u64,
    divisor: u64,
}

impl Decimal {
    fn floor(&self) -> u64 {
        self.units.checked_div(self.divisor).unwrap_or(u64::MAX)
    }

    fn ceil(&self) -> u64 {
        self.units.div_ceil(self.divisor.max(1))
    }
}

fn decimal(name: &str, text: &str, scale: u64, form: &str) -> Result<Decimal, Problem> {
    let bad = || refused(name, format!("{name} must be {form}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let places = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    if whole.is_empty() || whole.len() > 9 || places > 6 || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let number = |text: &str| {
        text.bytes().fold(0_u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
        })
    };
    let divisor = 10_u64.saturating_pow(places);
    let units = number(whole).saturating_mul(divisor).saturating_add(number(fraction));
    Ok(Decimal { units: units.checked_mul(scale).ok_or_else(bad)?, divisor })
}

/// The names of a list.
pub(super) fn list<'t>(name: &str, text: &'t str) -> Result<Vec<&'t str>, Problem> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if names.len() > MAX_NAMES {
        return Err(refused(name, format!("{name} takes at most {MAX_NAMES} names")));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Err(refused(name, format!("{name} has an empty name")));
    }
    Ok(names)
}

/// Numbers of names that a fact can have.
fn choices<T: std::str::FromStr + Copy>(
    name: &str,
    text: &str,
    all: &[T],
    of: impl Fn(T) -> (&'static str, u8),
) -> Result<Set, Problem> {
    let known = || all.iter().map(|item| of(*item).0).collect::<Vec<_>>().join(", ");
    let number = |wanted: &str| {
        let found = all.iter().find(|item| of(**item).0 == wanted);
        let found = found.map(|item| u64::from(of(*item).1));
        found.ok_or_else(|| refused(name, format!("{name} must be one of {}", known())))
    };
    list(name, text)?.into_iter().map(number).collect::<Result<_, _>>().map(Set::OneOf)
}

/// What names in `q` stand for.
struct Known<'a>(&'a AppState);

impl Lexicon for Known<'_> {
    fn models(&self, name: &str) -> Result<Vec<String>, NoName> {
        models::called(self.0, name)
    }

    fn place(&self, name: &str) -> Result<(), NoName> {
        places::known(self.0, name)
    }
}

/// The conditions in the making, and the parameter that each is of.
#[derive(Default)]
struct Tests {
    tests: Vec<Test>,
    given: Vec<&'static str>,
}

impl Tests {
    fn add(&mut self, name: &'static str, field: Field, set: Option<Set>) {
        if let Some(set) = set {
            self.tests.push(Test { field, set });
            self.given.push(name);
        }
    }

    fn at_least(&mut self, name: &'static str, field: Field, value: Option<u32>) {
        self.add(name, field, value.map(|value| Set::at_least(value.into())));
    }
}

impl SearchParams {
    /// What has to be asked anew at another second, beside the query's own.
    pub(super) fn counted_from_now(&self) -> FromNow {
        FromNow(self.available_for_s)
    }

    /// The filters as JSON, and what a cursor is bound to: everything but the size of a page.
    ///
    /// # Errors
    /// None that parameters can cause.
    pub(super) fn told(&mut self) -> Result<(Vec<u8>, seal::Fingerprint), Problem> {
        let limit = self.limit.take();
        let mut text = Vec::with_capacity(FILTER_BYTES);
        let done = serde_json::to_writer(&mut text, self).map_err(internal);
        self.limit = limit;
        done?;
        let fingerprint = seal::fingerprint(&text, order_version(self.sort.as_deref()));
        if let Some(limit) = limit
            && text.pop().is_some()
        {
            // the last member
            let alone = text.len() == 1;
            text.extend_from_slice(if alone { br#""limit":"# } else { br#","limit":"# });
            digits(&mut text, limit.into(), 1);
            text.push(b'}');
        }
        Ok((text, fingerprint))
    }

    /// The search in the index's words.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`]; [`crate::Code::ValidationFailed`] for `q`, for models that nobody knows, and for
    /// conditions that no offer can satisfy, by the market's bounds or beside each other.
    pub(super) fn asked(&self, app: &AppState) -> Result<Query, Problem> {
        let now = u32::try_from(app.now().get()).map_err(internal)?;
        let start_window = app.store.policy().start_window().get();
        let job = self.job()?;
        if let Some(job) = &job {
            satisfiable::job(job, self.total_lte.map(UsdMicros::get))?;
        }
        let Tests { tests, given } = self.tests(now.saturating_add(start_window))?;
        let speeds =
            self.tokens_per_s.as_ref().map(|text| models::speeds(app, text)).transpose()?;
        let named = self.gpu_model.as_ref().map(|text| models::names(app, text)).transpose()?;
        let (places, placed) = self.places(app)?;
        let mut query = Query {
            tests,
            models: named.into_iter().collect(),
            places,
            providers: self.provider.map(AccountId::uuid).into_iter().collect(),
            reserved: self.reserved()?,
            job,
            total_most: self.total_lte.map(UsdMicros::get),
            speeds,
            sort: self.sort(job.is_some())?,
            limit: page_limit(self.limit)?.into(),
            now,
            start_window,
            ..Query::default()
        };
        // all conditions hold: what one of them asks for alone the other cannot widen
        let said = [self.available, self.conditions(app, &mut query)?];
        query.available = said.contains(&Some(true)) || !said.contains(&Some(false));
        satisfiable::tests(&query.tests, Given(&given))?;
        satisfiable::places(&query.places, Given(&placed))?;
        Ok(query)
    }

    /// Adds the conditions of `q`, and returns what they say of what can be booked.
    fn conditions(&self, app: &AppState, query: &mut Query) -> Result<Option<bool>, Problem> {
        let Some(text) = &self.q else { return Ok(None) };
        language::parse(text, query, &Known(app)).map_err(|error| {
            let problem =
                Problem::invalid("?q", error.to_string()).with("position", error.position);
            match error.nearest {
                Some(name) => problem.with("nearest", name),
                None => problem,
            }
        })
    }

    fn job(&self) -> Result<Option<Job>, Problem> {
        let Some(hours) = &self.hours else {
            let needing = [
                ("disk_gb", self.disk_gb.is_some()),
                ("egress_gb", self.egress_gb.is_some()),
                ("ingress_gb", self.ingress_gb.is_some()),
                ("total_lte", self.total_lte.is_some()),
            ];
            let without = needing.iter().find(|(_, given)| *given);
            return match without {
                Some((name, _)) => Err(refused(name, format!("{name} needs hours"))),
                None => Ok(None),
            };
        };
        let hours: Hours = hours.parse().map_err(|error| refused("hours", format!("{error}")))?;
        let duration = hours.seconds_ceil().map_err(|error| refused("hours", error.to_string()))?;
        if duration.get() == 0 {
            return Err(refused("hours", "hours must be above 0"));
        }
        for (name, gb) in [("egress_gb", self.egress_gb), ("ingress_gb", self.ingress_gb)] {
            if gb.is_some_and(|gb| gb > MAX_TRAFFIC_GB) {
                return Err(refused(name, format!("{name} must be at most {MAX_TRAFFIC_GB}")));
            }
        }
        Ok(Some(Job {
            duration_s: duration.get(),
            disk_gb: self.disk_gb.unwrap_or(0),
            up_gb: self.egress_gb.unwrap_or(0),
            down_gb: self.ingress_gb.unwrap_or(0),
        }))
    }

    fn sort(&self, has_job: bool) -> Result<Sort, Problem> {
        Ok(match self.sort.as_deref().unwrap_or("price") {
            "price" => Sort::Price,
            "total" if !has_job => return Err(refused("sort", "sort=total needs hours")),
            "total" => Sort::Total,
            "perf_per_usd" => Sort::PerfPerUsd,
            "per_million_tokens" if self.tokens_per_s.is_none() => {
                return Err(refused("sort", "sort=per_million_tokens needs tokens_per_s"));
            }
            "per_million_tokens" => Sort::PerToken,
            "reliability" => Sort::Reliability,
            "ready" => Sort::Ready,
            "-created" => Sort::Newest,
            _ => {
                return Err(refused(
                    "sort",
                    "sort must be price, total, perf_per_usd, per_million_tokens, reliability, ready or -created",
                ));
            }
        })
    }

    fn reserved(&self) -> Result<bool, Problem> {
        match self.kind.as_deref() {
            None | Some("on_demand") => Ok(false),
            Some("reserved") => Ok(true),
            Some(_) => Err(refused("kind", "kind must be on_demand or reserved")),
        }
    }

    /// Places, and the parameter that each list is of.
    fn places(&self, app: &AppState) -> Result<(Vec<Names>, Vec<&'static str>), Problem> {
        let (mut places, mut given) = (Vec::new(), Vec::new());
        for (name, text, not) in [
            ("region", &self.region, false),
            ("country", &self.country, false),
            ("not_country", &self.not_country, true),
        ] {
            let Some(text) = text else { continue };
            let names: Vec<String> =
                list(name, text)?.into_iter().map(str::to_ascii_lowercase).collect();
            let is_country =
                |name: &str| name.len() == 2 && name.bytes().all(|b| b.is_ascii_lowercase());
            let (fits, form): (&dyn Fn(&str) -> bool, _) =
                if name == "region" { (&is_region, "de or de-fra") } else { (&is_country, "de") };
            if !names.iter().all(|name| fits(name)) {
                return Err(refused(name, format!("{name} must be of the form {form}")));
            }
            for place in &names {
                places::known_in(app, name, place)?;
            }
            places.push(Names { names, not });
            given.push(name);
        }
        Ok((places, given))
    }

    fn tests(&self, begins: u32) -> Result<Tests, Problem> {
        let mut tests = Tests { tests: Vec::with_capacity(16), given: Vec::with_capacity(16) };
        let exact = |value: Option<u16>| value.map(|value| Set::Span(value.into(), value.into()));
        tests.add("gpu_count", Field::GpuCount, exact(self.gpu_count));
        for (name, field, value) in [
            ("min_vram_gb", Field::Vram, self.min_vram_gb),
            ("min_total_vram_gb", Field::TotalVram, self.min_total_vram_gb),
            ("cpu_cores_gte", Field::CpuCores, self.cpu_cores_gte),
            ("ram_gb_gte", Field::Ram, self.ram_gb_gte),
            ("disk_gb_gte", Field::Disk, self.disk_gb_gte),
            ("disk_bw_gte", Field::DiskSpeed, self.disk_bw_gte),
            ("pcie_bw_gte", Field::Pcie, self.pcie_bw_gte),
            ("inet_up_gte", Field::Up, self.inet_up_gte),
            ("inet_down_gte", Field::Down, self.inet_down_gte),
            ("ports_gte", Field::Ports, self.ports_gte),
            ("notice_s_gte", Field::Notice, self.notice_s_gte),
        ] {
            tests.at_least(name, field, value);
        }
        let at_most = |value: Option<u64>| value.map(Set::at_most);
        let shortest = at_most(self.min_duration_lte.map(u64::from));
        tests.add("min_duration_lte", Field::MinDuration, shortest);
        tests.add("price_lte", Field::Price, at_most(self.price_lte.map(UsdMicros::get)));
        let static_ip = self.static_ip.map(|wanted| Set::OneOf(vec![wanted.into()]));
        tests.add("static_ip", Field::StaticIp, static_ip);
        let templates = self.runs_templates.map(|wanted| Set::OneOf(vec![wanted.into()]));
        tests.add("runs_templates", Field::Templates, templates);
        let duration = self.duration_s.map(u64::from);
        tests.add("duration_s", Field::MinDuration, at_most(duration));
        tests.add("duration_s", Field::MaxDuration, duration.map(Set::at_least));
        let until = self.available_for_s.map(|seconds| until(begins, seconds));
        tests.add("available_for_s", Field::Until, until);
        self.decimals(&mut tests)?;
        self.names(&mut tests)?;
        Ok(tests)
    }

    fn decimals(&self, tests: &mut Tests) -> Result<(), Problem> {
        for (name, text, field, scale, most, form) in [
            (
                "compute_capability_gte",
                &self.compute_capability_gte,
                Field::ComputeCapability,
                10,
                u64::MAX,
                "a version such as 8.6",
            ),
            ("cuda_gte", &self.cuda_gte, Field::Cuda, 10, u64::MAX, "a version such as 12.4"),
            (
                "reliability_gte",
                &self.reliability_gte,
                Field::Reliability,
                10_000,
                10_000,
                "a share of 1 such as 0.98",
            ),
        ] {
            let Some(text) = text else { continue };
            let least = decimal(name, text, scale, form)?.ceil();
            if least > most {
                return Err(refused(name, format!("{name} must be {form}")));
            }
            tests.add(name, field, Some(Set::at_least(least)));
        }
        if let Some(text) = &self.ready_p95_lte {
            let most = decimal("ready_p95_lte", text, 1_000, "seconds such as 30")?.floor();
            tests.add("ready_p95_lte", Field::Ready, Some(Set::at_most(most)));
        }
        if let Some(text) = &self.updated_since {
            let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
                refused("updated_since", "updated_since must be a time by RFC 3339")
            })?;
            let least = u64::try_from(at.unix_timestamp()).unwrap_or(0);
            tests.add("updated_since", Field::Updated, Some(Set::at_least(least)));
        }
        Ok(())
    }

    fn names(&self, tests: &mut Tests) -> Result<(), Problem> {
        if let Some(text) = &self.form {
            let set = choices("form", text, Form::ALL, |item| (item.as_str(), item.code()))?;
            tests.add("form", Field::Form, Some(set));
        }
        if let Some(text) = &self.tier {
            let set = choices("tier", text, Tier::ALL, |item| (item.as_str(), item.code()))?;
            tests.add("tier", Field::Tier, Some(set));
        }
        if let Some(text) = &self.verification {
            let all = Verification::ALL;
            let set = choices("verification", text, all, |item| (item.as_str(), item.code()))?;
            tests.add("verification", Field::Verification, Some(set));
        }
        if let Some(text) = &self.isolation {
            let set =
                choices("isolation", text, Isolation::ALL, |item| (item.as_str(), item.code()))?;
            tests.add("isolation", Field::Isolation, Some(set));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_told_as_they_are_and_cursors_know_nothing_of_the_page_size() {
        let filled = SearchParams {
            gpu_model: Some("rtx-4090,\"x\"".to_owned()),
            static_ip: Some(true),
            cursor: Some("c".to_owned()),
            ..SearchParams::default()
        };
        let mut seen = Vec::new();
        for params in [SearchParams::default(), filled] {
            let bound = params.clone().told().unwrap().1;
            assert!(!seen.contains(&bound));
            seen.push(bound);
            for limit in [None, Some(0), Some(7), Some(50), Some(u16::MAX)] {
                let mut params = SearchParams { limit, ..params.clone() };
                let (text, fingerprint) = params.told().unwrap();
                assert_eq!(text, serde_json::to_vec(&params).unwrap());
                assert_eq!((params.limit, fingerprint), (limit, bound));
            }
        }
    }

    #[test]
    fn an_order_that_changed_knows_no_cursor_from_before() {
        for (sort, is_as_before) in [("price", true), ("perf_per_usd", false)] {
            let sort = Some(sort.to_owned());
            let (text, bound) = SearchParams { sort, ..SearchParams::default() }.told().unwrap();
            assert_eq!(bound == seal::fingerprint(&text, 0), is_as_before);
        }
    }

    #[test]
    fn decimals_are_exact_and_rounded_to_what_satisfies_their_bound() {
        let read = |text| decimal("x", text, 10_000, "a number").ok().map(|found| found.ceil());
        let most = |text| decimal("x", text, 1_000, "a number").unwrap().floor();
        assert_eq!((most("30"), most("30.0001"), most("29.9999")), (30_000, 30_000, 29_999));
        assert_eq!(read("0.95"), Some(9_500));
        assert_eq!(read("1"), Some(10_000));
        assert_eq!(read("0.950001"), Some(9_501));
        assert_eq!(read("0."), Some(0));
        assert_eq!(read("999999999.999999"), Some(10_000_000_000_000));
        for bad in ["", ".5", "-1", "1e3", "1.0000000", "1000000000", "1.2.3", "\u{661}"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
