//! `weir doctor` on a good market, and on one where one thing after another is broken.

use alloy::primitives::hex;
use serde_json::{Value, json};
use testkit::{AnvilOptions, DEV_KEYS, TestChain};

use super::{
    market::{Market, OPERATOR},
    process::weir,
};

/// What a run of the doctor said.
struct Said {
    ok: bool,
    json: Value,
}

impl Said {
    fn by(environment: &[(&str, &str)]) -> Self {
        let output = weir(&["doctor", "--json", "--closes", "5"], environment).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["ok"], output.status.success(), "{json}");
        assert_eq!(output.status.code(), Some(i32::from(!output.status.success())));
        Self { ok: output.status.success(), json }
    }

    fn check(&self, id: &str) -> &Value {
        let checks = self.json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id}"))
    }

    fn outcome(&self, id: &str) -> &str {
        self.check(id)["outcome"].as_str().unwrap()
    }

    fn failed(&self) -> Vec<&str> {
        let checks = self.json["checks"].as_array().unwrap();
        checks
            .iter()
            .filter(|check| check["outcome"] == "fail")
            .map(|check| {
                assert_ne!(check["action"], "", "a failure says what to do: {check}");
                assert_ne!(check["required"], "", "{check}");
                check["id"].as_str().unwrap()
            })
            .collect()
    }
}

fn with_key(market: &Market) -> Vec<(&str, &str)> {
    market.with(&[("WEIR_OPERATOR_KEY", OPERATOR)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_market_passes_and_each_broken_thing_is_named() {
    let market = Market::open().await;
    let good = Said::by(&with_key(&market));
    assert_eq!(good.failed(), Vec::<&str>::new(), "{:#}", good.json);
    assert!(good.ok);
    for id in [
        "database.reachable",
        "database.version",
        "database.migrations",
        "database.connections",
        "database.clock",
        "deployment.recorded",
        "chain.reachable",
        "chain.id",
        "chain.genesis",
        "chain.clock",
        "chain.finality",
        "escrow.code",
        "escrow.abi",
        "token.POL.listed",
        "token.USDC.listed",
        "token.POL.price",
        "token.USDC.price",
        "token.USDC.symbol",
        "token.USDC.decimals",
        "token.USDC.domain",
        "fee.tip",
        "fee.ceiling",
        "signer.operator",
        "signer.balance",
    ] {
        assert_eq!(good.outcome(id), "pass", "{}", good.check(id));
    }
    a_line_each(&market, &good);
    broken_settings(&market);
    broken_database(&market).await;
    another_contract(&market).await;
    frozen_money(&market).await;
    broken_chain(&market).await;
}

/// The text has a line per check; the address is shown, the key is not.
fn a_line_each(market: &Market, good: &Said) {
    let output = weir(&["doctor"], &with_key(market)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), good.json["checks"].as_array().unwrap().len());
    assert!(text.lines().all(|line| line.starts_with("pass  ") || line.starts_with("skip  ")));
    assert!(!text.contains(OPERATOR.trim_start_matches("0x")));
    let keyless = Said::by(&market.environment());
    assert!(keyless.ok, "the API's process has no key");
    assert_eq!(keyless.outcome("signer.operator"), "skip");
    assert_eq!(keyless.outcome("quoter.role"), "skip");
}

fn broken_settings(market: &Market) {
    let failing = |more: &[(&str, &str)]| {
        let said =
            Said::by(&with_key(market).into_iter().chain(more.iter().copied()).collect::<Vec<_>>());
        said.failed().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // account 8 has coins and no role
    assert_eq!(failing(&[("WEIR_OPERATOR_KEY", DEV_KEYS[8])]), ["signer.operator"]);
    assert_eq!(failing(&[("WEIR_OPERATOR_KEY", "nonsense")]), ["signer.operator"]);
    // the key that signs quotes is nobody, and poor
    let quoting = |key: &str| failing(&[("WEIR_QUOTE_KEY", key)]);
    assert_eq!(quoting(DEV_KEYS[0]), ["quoter.role", "quoter.funds"]);
    assert_eq!(quoting(OPERATOR), ["quoter.role", "quoter.funds"]);
    assert_eq!(quoting(DEV_KEYS[8]), ["quoter.funds"]);
    assert_eq!(quoting("nonsense"), ["quoter.role"]);
    let nobody = "0xf214f2b2cd398c806f84e317254e0f0b801d0643303237d97a22a48e01628897";
    assert_eq!(quoting(nobody), Vec::<String>::new());
    // and nothing is served with one that is somebody
    let settings = with_key(market).into_iter().chain([("WEIR_QUOTE_KEY", OPERATOR)]);
    let refused = weir(&["serve"], &settings.collect::<Vec<_>>()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("the role of an operator"), "{said}");
    assert!(!said.contains(OPERATOR.trim_start_matches("0x")));
    assert_eq!(failing(&[("WEIR_DB_CONNECTIONS", "100000")]), ["database.connections"]);
    // below the tip that the node suggests, and so without room for a base fee
    let stingy = failing(&[("WEIR_TIP_FLOOR_GWEI", "0"), ("WEIR_MAX_FEE_GWEI", "0")]);
    assert_eq!(stingy, ["fee.tip", "fee.ceiling"]);
    let nobody = failing(&[("RPC_URL", "http://127.0.0.1:1/v2/secret-of-the-provider")]);
    assert_eq!(nobody, ["chain.reachable"]);
    let nobody = failing(&[("DATABASE_URL", "postgres://weir:pass-word@127.0.0.1:1/weir")]);
    assert_eq!(nobody, ["database.reachable"]);
}

async fn broken_database(market: &Market) {
    for (breaks, mends, id) in [
        (
            "UPDATE tokens SET fixed = false WHERE symbol = 'USDC'",
            "UPDATE tokens SET fixed = true WHERE symbol = 'USDC'",
            "token.USDC.price",
        ),
        (
            "UPDATE tokens SET permit_version = permit_version || 'x' WHERE symbol = 'USDC'",
            "UPDATE tokens SET permit_version = left(permit_version, -1) WHERE symbol = 'USDC'",
            "token.USDC.domain",
        ),
        (
            "UPDATE tokens SET decimals = 18 WHERE symbol = 'USDC'",
            "UPDATE tokens SET decimals = 6 WHERE symbol = 'USDC'",
            "token.USDC.decimals",
        ),
        (
            "UPDATE tokens SET symbol = 'USDX' WHERE symbol = 'USDC'",
            "UPDATE tokens SET symbol = 'USDC' WHERE symbol = 'USDX'",
            "token.USDX.symbol",
        ),
        (
            "UPDATE _sqlx_migrations SET version = -version WHERE version = 3",
            "UPDATE _sqlx_migrations SET version = 3 WHERE version = -3",
            "database.migrations",
        ),
        (
            "UPDATE _sqlx_migrations SET checksum = '\\x00' || checksum WHERE version = 3",
            "UPDATE _sqlx_migrations SET checksum = substr(checksum, 2) WHERE version = 3",
            "database.migrations",
        ),
        (
            "UPDATE deployment SET chain_id = 137",
            "UPDATE deployment SET chain_id = 31337",
            "chain.id",
        ),
    ] {
        assert!(market.sql(breaks).await > 0, "{breaks}");
        let said = Said::by(&with_key(market));
        assert!(said.failed().contains(&id), "{breaks}: {:?}", said.failed());
        assert!(market.sql(mends).await > 0, "{mends}");
    }
    let mended = Said::by(&with_key(market));
    assert_eq!(mended.failed(), Vec::<&str>::new(), "{:#}", mended.json);
}

/// Whoever can write to the database names a contract of its own: nothing starts that was told the true one.
async fn another_contract(market: &Market) {
    let escrow: Vec<u8> = sqlx::query_scalar("SELECT escrow FROM deployment")
        .fetch_one(&market.db.pool)
        .await
        .unwrap();
    let ours = hex::encode_prefixed(escrow);
    let told: Vec<_> = with_key(market).into_iter().chain([("WEIR_ESCROW", &*ours)]).collect();
    assert_eq!(Said::by(&told).failed(), Vec::<&str>::new());
    market.sql("CREATE TABLE truth AS SELECT escrow FROM deployment").await;
    market.sql("UPDATE deployment SET escrow = substr(sha256(escrow), 1, 20)").await;
    assert!(Said::by(&told).failed().contains(&"deployment.recorded"));
    for process in ["serve", "work"] {
        let refused = weir(&[process], &told).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("but WEIR_ESCROW is"), "{said}");
    }
    market.sql("UPDATE deployment SET escrow = truth.escrow FROM truth").await;
}

/// Frozen money is a matter for a person, until one has lifted it.
async fn frozen_money(market: &Market) {
    market
        .sql(
            "CREATE TABLE IF NOT EXISTS freezes (scope text, reason text, detail text, block bigint,
                 frozen_at timestamptz, lifted_at timestamptz, lifted_by text);
             INSERT INTO freezes (scope, reason, detail, block, frozen_at)
             VALUES ('all', 'finality_missing', 'a test', 1, now());",
        )
        .await;
    assert_eq!(Said::by(&with_key(market)).failed(), ["money.freezes"]);
    market.sql("UPDATE freezes SET lifted_at = now(), lifted_by = 'the test'").await;
    assert_eq!(Said::by(&with_key(market)).outcome("money.freezes"), "pass");
}

async fn broken_chain(market: &Market) {
    let anvil = market.chain.anvil();
    let signer = testkit::DEV_ADDRESSES[1];
    anvil.call("anvil_setBalance", json!([signer, "0x1"])).await.unwrap();
    let said = Said::by(&with_key(market));
    assert_eq!(said.failed(), ["signer.balance"]);
    assert!(
        said.check("signer.balance")["found"].as_str().unwrap().contains("enough for 0 closes")
    );
    anvil.call("anvil_setBalance", json!([signer, "0xde0b6b3a7640000"])).await.unwrap();

    let escrow: Vec<u8> = sqlx::query_scalar("SELECT escrow FROM deployment")
        .fetch_one(&market.db.pool)
        .await
        .unwrap();
    let code = json!([hex::encode_prefixed(escrow), "0x00"]);
    anvil.call("anvil_setCode", code).await.unwrap();
    let said = Said::by(&with_key(market));
    for id in ["escrow.code", "escrow.abi", "signer.operator", "token.POL.listed"] {
        assert_eq!(said.outcome(id), "fail", "{}", said.check(id));
    }
    assert_eq!(said.outcome("chain.genesis"), "pass");

    // the chain's clock an hour ahead: ours is wrong, or theirs
    anvil.call("evm_increaseTime", json!([3_600])).await.unwrap();
    anvil.call("anvil_mine", json!(["0x1"])).await.unwrap();
    assert_eq!(Said::by(&with_key(market)).outcome("chain.clock"), "fail");

    let options = AnvilOptions { chain_id: 31_338, ..AnvilOptions::default() };
    let other = TestChain::start_with(options).await.unwrap();
    let said = Said::by(&market.with(&[("RPC_URL", other.url())]));
    assert_eq!(said.outcome("chain.id"), "fail", "{:#}", said.json);
    // the same id, but another chain; and a block of today, so that nothing else is odd
    let twin = TestChain::start().await.unwrap();
    twin.anvil().call("anvil_mine", json!(["0x3"])).await.unwrap();
    let said = Said::by(&market.with(&[("RPC_URL", twin.url())]));
    assert_eq!((said.outcome("chain.id"), said.outcome("chain.genesis")), ("pass", "fail"));
    assert_eq!(said.outcome("escrow.code"), "fail");
}

#[test]
fn it_says_no_secret() {
    for json in [true, false] {
        let arguments: &[&str] = if json { &["doctor", "--json"] } else { &["doctor"] };
        let environment = [
            ("RPC_URL", "http://127.0.0.1:1/v2/secret-of-the-provider?key=secret-in-the-query"),
            ("DATABASE_URL", "postgres://weir:secret-of-the-database@127.0.0.1:1/weir"),
            ("WEIR_OPERATOR_KEY", OPERATOR),
        ];
        let output = weir(arguments, &environment).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("chain.reachable") && said.contains("database.reachable"));
        assert!(!said.contains("secret"), "{said}");
        assert!(!said.contains(OPERATOR.trim_start_matches("0x")), "{said}");
    }
}
