//! The 40 reference cases of `pricing-cases.csv`, through HTTP: every input column is sent, every expected column is
//! compared, and what came out is written down in `docs/PRICING.md`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::fixture::World;

const TABLE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../domain/tests/data/pricing-cases.csv"));
/// Columns that describe a case and take no part in it.
const DESCRIPTIVE: [&str; 4] = ["tier", "source", "verdict", "note"];

/// Splits a line; quoted fields may hold commas, and the file has no quotes inside of quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

/// A case that forgets what was read, so that what nobody read is left over.
struct Case {
    id: String,
    columns: BTreeMap<String, String>,
}

impl Case {
    fn read(header: &[String], line: &str) -> Self {
        let values = fields(line);
        assert_eq!(values.len(), header.len(), "columns of {line}");
        let mut columns: BTreeMap<String, String> =
            header.iter().cloned().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        for pair in
            columns.remove("params").unwrap_or_default().split(';').filter(|p| !p.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap();
            columns.insert(format!("param:{name}"), value.to_owned());
        }
        Self { id: columns.remove("case_id").unwrap(), columns }
    }

    fn take(&mut self, column: &str) -> String {
        self.columns.remove(column).unwrap_or_else(|| panic!("{} lacks {column}", self.id))
    }

    fn number(&mut self, column: &str) -> u64 {
        self.take(column).parse().unwrap()
    }

    fn usd(&mut self, column: &str) -> Value {
        json!({"amount": self.take(column), "currency": "USD"})
    }

    /// The request, and where in the answer the total stands.
    fn request(&mut self) -> (Value, &'static str) {
        let kind = self.take("kind");
        let mut body = match kind.as_str() {
            "usage" => {
                json!({"price": self.usd("rate_usd_per_hour"), "units": self.number("units"),
                              "elapsed_s": self.number("elapsed_s")})
            }
            "replica" => json!({
                "price": self.usd("rate_usd_per_hour"), "units": self.number("units"),
                "hours": self.take("param:hours"), "min_replicas": self.number("param:min_replicas"),
                "scale_up_hours": self.take("param:scale_up_hours"),
                "additional_replicas": self.number("param:additional_replicas")}),
            "per_million_tokens" => json!({
                "price": self.usd("rate_usd_per_hour"), "units": self.number("units"),
                "tokens_per_second": self.number("param:tokens_per_s")}),
            "per_gpu" => {
                let (rate, gpus) = (self.take("rate_usd_per_hour"), self.take("units"));
                assert_eq!(
                    (&rate, &gpus),
                    (&self.take("param:instance_rate"), &self.take("param:gpus"))
                );
                json!({"instance_price": {"amount": rate, "currency": "USD"},
                       "gpus": gpus.parse::<u32>().unwrap()})
            }
            "compare" => json!({"count": self.number("param:conversations"), "ways": [
                {"label": "a", "unit_price": self.usd("param:cost_a")},
                {"label": "b", "unit_price": self.usd("param:cost_b")}]}),
            other => panic!("{}: unknown kind {other}", self.id),
        };
        if ["usage", "replica"].contains(&kind.as_str()) {
            body["granularity_s"] = self.number("granularity_s").into();
            body["min_s"] = self.number("min_s").into();
            body["fee_bps"] = self.number("fee_bps").into();
            body["fee_side"] = self.take("fee_side").into();
            if self.columns.contains_key("deposit_usd") {
                body["deposit"] = self.usd("deposit_usd");
            }
        }
        let total = match kind.as_str() {
            "usage" | "replica" => "/total/amount",
            "per_million_tokens" | "per_gpu" => "/price/amount",
            _ => "/ways/1/total/amount",
        };
        body["kind"] = kind.into();
        (body, total)
    }

    fn expect(&mut self, column: &str, ours: &Value) {
        if let Some(expected) = self.columns.remove(column) {
            let ours = ours.as_str().map_or_else(|| ours.to_string(), str::to_owned);
            assert_eq!(ours, expected, "{} {column}", self.id);
        }
    }

    /// What the source itself says against what we show: equal unless the source rounded, or is wrong.
    fn check_stated(&self, verdict: &str, stated: Option<&str>, display: &str) {
        let id = self.id.as_str();
        match (verdict, stated) {
            ("derived", None) => {}
            ("exact", Some("15000; 4000; 73%")) => {
                assert_eq!(display, "15000.00 -> 4000.00 (-73.33%)", "{id}");
            }
            ("exact", Some(stated)) => assert_eq!(display, stated, "{id}"),
            ("approx", Some(stated)) => assert_eq!(format!("~{display}"), stated, "{id}"),
            ("CONTRADICTS", Some(stated)) => assert_ne!(display, stated, "{id}: no contradiction"),
            (verdict, stated) => panic!("{id}: verdict {verdict} with {stated:?}"),
        }
    }
}

/// A line of the page.
struct Line {
    text: String,
    contradicts: bool,
}

async fn play(world: &World, mut case: Case) -> Line {
    let (body, place) = case.request();
    let said = world.post("/v1/estimates").json(&body).send().await.ok(200);
    let total = said.pointer(place).unwrap().clone();
    let compared = body["kind"] == "compare";
    let display = said[if compared { "ways" } else { "display" }].clone();
    let display = if compared { display[1]["display"].clone() } else { display };
    case.expect("expected_billed_s", &said["billed_s"]);
    let gross = said.pointer("/gross/amount").unwrap_or(&total);
    case.expect("expected_gross_usd", gross);
    case.expect("expected_fee_usd", &said["fee"]["amount"]);
    case.expect("expected_provider_usd", &said["provider"]["amount"]);
    case.expect("expected_renter_total_usd", &total);
    case.expect("expected_refund_usd", &said["refund"]["amount"]);
    case.expect("expected_display", &display);
    let display = display.as_str().unwrap();
    let stated = case.columns.remove("source_stated");
    let verdict = case.columns["verdict"].clone();
    case.check_stated(&verdict, stated.as_deref(), display);
    let note = case.columns.get("note").cloned().unwrap_or_default();
    let text = format!(
        "| {} | {} | {} | {} | {display} | {} | {verdict} | {note} |",
        case.id,
        case.columns["source"],
        body["kind"].as_str().unwrap(),
        total.as_str().unwrap(),
        stated.unwrap_or_default(),
    );
    case.columns.retain(|column, _| !DESCRIPTIVE.contains(&column.as_str()));
    assert!(case.columns.is_empty(), "{}: nobody read {:?}", case.id, case.columns);
    Line { text, contradicts: verdict == "CONTRADICTS" }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_forty_cases_come_out_through_http() {
    let world = World::new().await;
    let mut lines = TABLE.lines();
    let header = fields(lines.next().unwrap());
    let mut page = String::from(
        "# The reference cases\n\n\
         What `POST /v1/estimates` answers to each case of `crates/domain/tests/data/pricing-cases.csv`: the exact value,\n\
         what is shown of it, what its source says, and the verdict. Where a source is wrong by a cent, the exact value\n\
         stands. `UPDATE_DOCS=1 cargo test -p api` rewrites this page.\n\n\
         | case | source | kind | exact, USD | shown | the source says | verdict | note |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let (mut played, mut contradictions) = (0, 0);
    for line in lines {
        let line = play(&world, Case::read(&header, line)).await;
        writeln!(page, "{}", line.text).unwrap();
        played += 1;
        contradictions += usize::from(line.contradicts);
    }
    assert_eq!((played, contradictions), (40, 1));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PRICING.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "docs/PRICING.md is stale: UPDATE_DOCS=1 cargo test -p api");
}
