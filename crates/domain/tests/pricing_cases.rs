//! The 40 reference cases of `pricing-cases.csv`: every input column is used, every expected column is compared.

#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use domain::estimate::{
    Charge, Fee, Hours, Replicas, Rounding, Usage, compare, per_gpu, per_million_tokens, replica,
    usage,
};
use domain::{FeeBps, Seconds, UsdMicros, UsdPerHour};

/// Columns that describe a case and take no part in it.
const DESCRIPTIVE: [&str; 4] = ["tier", "source", "verdict", "note"];

/// Splits a CSV line; quoted fields may hold commas, and the file has no quotes inside of quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is always a field").push(c),
        }
    }
    fields
}

/// A row that forgets what was read, so that what nobody read is left over.
struct Case {
    id: String,
    columns: BTreeMap<String, String>,
    params: BTreeMap<String, String>,
}

impl Case {
    fn read(header: &[String], line: &str) -> Self {
        let values = fields(line);
        assert_eq!(values.len(), header.len(), "columns of {line}");
        let mut columns: BTreeMap<String, String> =
            header.iter().cloned().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        let id = columns.remove("case_id").expect("a case has an id");
        let params = columns.remove("params").unwrap_or_default();
        let params = params
            .split(';')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').expect("a parameter is name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { id, columns, params }
    }

    fn maybe<T: std::str::FromStr>(&mut self, column: &str) -> Option<T> {
        let value = self.columns.remove(column)?;
        Some(value.parse().unwrap_or_else(|_| panic!("{}: {column} = {value:?}", self.id)))
    }

    fn column<T: std::str::FromStr>(&mut self, column: &str) -> T {
        self.maybe(column).unwrap_or_else(|| panic!("{} lacks {column}", self.id))
    }

    fn param<T: std::str::FromStr>(&mut self, name: &str) -> T {
        let value = self.params.remove(name);
        let value = value.unwrap_or_else(|| panic!("{} lacks {name}", self.id));
        value.parse().unwrap_or_else(|_| panic!("{}: {name} = {value:?}", self.id))
    }

    fn rounding(&mut self) -> Rounding {
        Rounding {
            granularity: Seconds(self.column("granularity_s")),
            minimum: Seconds(self.column("min_s")),
        }
    }

    fn fee(&mut self) -> Fee {
        let bps = FeeBps::new(self.column("fee_bps")).expect("a fee within the cap");
        Fee { bps, side: self.column("fee_side") }
    }
}

/// What we compute; `None` where the kind has no such figure.
#[derive(Default)]
struct Computed {
    billed: Option<u32>,
    gross: Option<UsdMicros>,
    fee: Option<UsdMicros>,
    provider: Option<UsdMicros>,
    renter_total: Option<UsdMicros>,
    refund: Option<UsdMicros>,
    display: String,
}

impl Computed {
    fn of_charge(charge: Charge) -> Self {
        Self {
            billed: None,
            gross: Some(charge.gross),
            fee: Some(charge.fee),
            provider: Some(charge.provider),
            renter_total: Some(charge.renter_total),
            refund: charge.refund,
            display: charge.renter_total.cents_half_up(),
        }
    }

    fn of_price(price: UsdMicros) -> Self {
        Self {
            gross: Some(price),
            renter_total: Some(price),
            display: price.cents_half_up(),
            ..Self::default()
        }
    }
}

fn compute(case: &mut Case) -> Computed {
    let kind: String = case.column("kind");
    match kind.as_str() {
        "usage" => {
            let input = Usage {
                rate: case.column("rate_usd_per_hour"),
                units: case.column("units"),
                elapsed: Seconds(case.column("elapsed_s")),
                rounding: case.rounding(),
                ever_ready: true,
                fee: case.fee(),
                deposit: case.maybe("deposit_usd"),
            };
            let estimate = usage(&input).expect("usage in range");
            let billed = Some(estimate.billed.get());
            Computed { billed, ..Computed::of_charge(estimate.charge) }
        }
        "replica" => {
            let service = Replicas {
                rate: case.column("rate_usd_per_hour"),
                units: case.column("units"),
                hours: case.param::<Hours>("hours"),
                min_replicas: case.param("min_replicas"),
                scale_up_hours: case.param::<Hours>("scale_up_hours"),
                additional_replicas: case.param("additional_replicas"),
                rounding: case.rounding(),
                fee: case.fee(),
            };
            Computed::of_charge(replica(&service).expect("replicas in range"))
        }
        "per_million_tokens" => {
            let (rate, units) = (case.column("rate_usd_per_hour"), case.column("units"));
            let price = per_million_tokens(rate, units, case.param("tokens_per_s"));
            Computed::of_price(price.expect("price in range"))
        }
        "per_gpu" => {
            let (rate, gpus): (UsdPerHour, u32) = (case.param("instance_rate"), case.param("gpus"));
            assert_eq!(rate, case.column("rate_usd_per_hour"), "{}", case.id);
            assert_eq!(gpus, case.column::<u32>("units"), "{}", case.id);
            Computed::of_price(per_gpu(rate, gpus).expect("price in range").usd())
        }
        "compare" => {
            let (count, a, b) =
                (case.param("conversations"), case.param("cost_a"), case.param("cost_b"));
            let comparison = compare(count, a, b).expect("totals in range");
            let display = comparison.to_string();
            Computed { display, ..Computed::of_price(comparison.total_b) }
        }
        other => panic!("{}: unknown kind {other}", case.id),
    }
}

/// What the source itself says against what we show: equal unless the source rounded, or is wrong.
fn check_stated(case: &mut Case, verdict: &str, display: &str) {
    let stated: Option<String> = case.maybe("source_stated");
    let id = case.id.as_str();
    match (verdict, stated.as_deref()) {
        ("derived", None) => {}
        ("exact", Some("15000; 4000; 73%")) => assert_eq!(display, "15000.00 -> 4000.00 (-73.33%)"),
        ("exact", Some(stated)) => assert_eq!(display, stated, "{id}"),
        ("approx", Some(stated)) => assert_eq!(format!("~{display}"), stated, "{id}"),
        ("CONTRADICTS", Some(stated)) => assert_ne!(display, stated, "{id}: no contradiction"),
        (verdict, stated) => panic!("{id}: verdict {verdict} with {stated:?}"),
    }
}

fn check(mut case: Case) -> String {
    let verdict: String = case.columns.get("verdict").expect("a verdict").clone();
    let computed = compute(&mut case);
    let mut expect = |column: &str, ours: Option<String>| {
        if let Some(expected) = case.maybe::<String>(column) {
            assert_eq!(ours.as_deref(), Some(expected.as_str()), "{} {column}", case.id);
        }
    };
    let usd = |value: Option<UsdMicros>| value.map(|value| value.to_string());
    expect("expected_billed_s", computed.billed.map(|billed| billed.to_string()));
    expect("expected_gross_usd", usd(computed.gross));
    expect("expected_fee_usd", usd(computed.fee));
    expect("expected_provider_usd", usd(computed.provider));
    expect("expected_renter_total_usd", usd(computed.renter_total));
    expect("expected_refund_usd", usd(computed.refund));
    expect("expected_display", Some(computed.display.clone()));
    check_stated(&mut case, &verdict, &computed.display);
    case.columns.retain(|column, _| !DESCRIPTIVE.contains(&column.as_str()));
    assert!(case.columns.is_empty(), "{}: nobody read {:?}", case.id, case.columns);
    assert!(case.params.is_empty(), "{}: nobody read {:?}", case.id, case.params);
    verdict
}

#[test]
fn all_forty_cases_come_out() {
    let text = include_str!("data/pricing-cases.csv");
    let mut lines = text.lines();
    let header = fields(lines.next().expect("the file has a header"));
    let verdicts: Vec<String> = lines.map(|line| check(Case::read(&header, line))).collect();
    assert_eq!(verdicts.len(), 40);
    assert_eq!(verdicts.iter().filter(|verdict| *verdict == "CONTRADICTS").count(), 1);
}
