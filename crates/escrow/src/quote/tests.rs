use super::*;

const CHAIN: u64 = 31_337;
const ESCROW: Address = Address::repeat_byte(0xe5);

fn line(kind: &str, max: i64) -> Line {
    Line { kind: kind.to_owned(), unit: "quote".to_owned(), unitPrice: max, quantity: 1, max }
}

fn order() -> Order {
    Order {
        offer: "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
        offerVersion: 3,
        machine: "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
        gpuModel: "rtx-4090".to_owned(),
        gpuCount: 2,
        durationSecs: 7_200,
        diskGb: 100,
        upGb: 10,
        downGb: 20,
        template: "pytorch@3".to_owned(),
    }
}

fn terms() -> Terms {
    Terms {
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        token: Address::repeat_byte(3),
        pricePerHour: Uint::from(1_170_000),
        feeBps: 1_200,
        startBy: Uint::from(1_800_001_000),
        holdback: 3_600,
        orderHash: B256::repeat_byte(7),
    }
}

fn fx() -> Fx {
    Fx {
        usdPerToken: 1_000_000,
        source: "chainlink:0x1".to_owned(),
        pricedAt: Uint::from(1_799_999_000),
    }
}

fn quote() -> Quote {
    Quote {
        id: "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
        order: order(),
        lines: vec![line("compute", 2_600_000), line("reserved_discount", -260_000)],
        usdPerHour: 1_170_000,
        usdMax: 2_340_000,
        rental: terms_hash(&(&terms()).into(), &crate::terms::domain(CHAIN, ESCROW)),
        terms: terms(),
        deposit: Uint::from(2_340_000),
        fx: fx(),
        createdAt: Uint::from(1_800_000_000),
        expiresAt: Uint::from(1_800_000_300),
        readySecs: 120,
        noticeSecs: 300,
        refundRule: refund_rule(),
    }
}

#[test]
fn a_signature_covers_every_field() {
    let key = PrivateKeySigner::random();
    let signature = sign(&quote(), &key, &domain(CHAIN, ESCROW)).unwrap();
    let check = |quote: &Quote| verify(quote, &signature, key.address(), CHAIN, ESCROW);
    assert_eq!(check(&quote()), Ok(()));
    let mut changed = vec![
        Quote { id: "quo_1".to_owned(), ..quote() },
        Quote { lines: vec![line("compute", 2_340_000)], ..quote() },
        Quote { usdPerHour: 1, ..quote() },
        Quote { usdMax: 1, ..quote() },
        Quote { rental: B256::ZERO, ..quote() },
        Quote { deposit: Uint::from(1), ..quote() },
        Quote { createdAt: Uint::from(1), ..quote() },
        Quote { expiresAt: Uint::from(1), ..quote() },
        Quote { readySecs: 1, ..quote() },
        Quote { noticeSecs: 1, ..quote() },
        Quote { refundRule: B256::ZERO, ..quote() },
    ];
    let orders = [
        Order { offer: "ofr_1".to_owned(), ..order() },
        Order { offerVersion: 4, ..order() },
        Order { machine: "mch_1".to_owned(), ..order() },
        Order { gpuModel: "t4".to_owned(), ..order() },
        Order { gpuCount: 1, ..order() },
        Order { durationSecs: 7_201, ..order() },
        Order { diskGb: 99, ..order() },
        Order { upGb: 11, ..order() },
        Order { downGb: 21, ..order() },
        Order { template: String::new(), ..order() },
    ];
    changed.extend(orders.map(|order| Quote { order, ..quote() }));
    let all_terms = [
        Terms { renter: Address::ZERO, ..terms() },
        Terms { provider: Address::ZERO, ..terms() },
        Terms { token: Address::ZERO, ..terms() },
        Terms { pricePerHour: Uint::from(1), ..terms() },
        Terms { feeBps: 1_000, ..terms() },
        Terms { startBy: Uint::from(1), ..terms() },
        Terms { holdback: 0, ..terms() },
        Terms { orderHash: B256::ZERO, ..terms() },
    ];
    changed.extend(all_terms.map(|terms| Quote { terms, ..quote() }));
    let prices = [
        Fx { usdPerToken: 1, ..fx() },
        Fx { source: String::new(), ..fx() },
        Fx { pricedAt: Uint::from(1), ..fx() },
    ];
    changed.extend(prices.map(|fx| Quote { fx, ..quote() }));
    for other in &changed {
        assert!(matches!(check(other), Err(QuoteError::Signer(_))), "{other:?}");
    }
    // nor is it one for another chain, another contract, or in the escrow's own domain
    for (chain, escrow) in [(137, ESCROW), (CHAIN, Address::repeat_byte(9))] {
        let elsewhere = verify(&quote(), &signature, key.address(), chain, escrow);
        assert!(matches!(elsewhere, Err(QuoteError::Signer(_))));
    }
    let ours = crate::terms::domain(CHAIN, ESCROW);
    assert_ne!(signed::recover(&quote(), &signature, &ours), Ok(key.address()));
}

#[test]
fn a_signed_contradiction_is_no_quote() {
    let key = PrivateKeySigner::random();
    let check = |quote: &Quote| {
        let signature = sign(quote, &key, &domain(CHAIN, ESCROW)).unwrap();
        verify(quote, &signature, key.address(), CHAIN, ESCROW)
    };
    assert_eq!(check(&quote()), Ok(()));
    assert_eq!(check(&Quote { rental: B256::ZERO, ..quote() }), Err(QuoteError::Terms));
    let other = Terms { holdback: 1, ..terms() };
    assert_eq!(check(&Quote { terms: other, ..quote() }), Err(QuoteError::Terms));
    assert_eq!(check(&Quote { usdMax: 2_340_001, ..quote() }), Err(QuoteError::Sum));
    let negative = vec![line("compute", -1)];
    assert_eq!(check(&Quote { lines: negative, usdMax: 0, ..quote() }), Err(QuoteError::Sum));
    for deposit in [2_339_999, 2_340_001] {
        let wrong = Quote { deposit: Uint::from(deposit), ..quote() };
        assert_eq!(check(&wrong), Err(QuoteError::Deposit));
    }
    let dearer = Quote { usdPerHour: 1_170_001, ..quote() };
    assert_eq!(check(&dearer), Err(QuoteError::Total));
    let cheaper = Quote { usdMax: 2_339_999, lines: vec![line("compute", 2_339_999)], ..quote() };
    assert_eq!(check(&cheaper), Err(QuoteError::Total));
    // the same figures for a token of any other division, and no others
    let paid = |price: u64, deposit: u64, usd: u64| {
        let terms = Terms { pricePerHour: Uint::from(price), ..terms() };
        let rental = terms_hash(&(&terms).into(), &crate::terms::domain(CHAIN, ESCROW));
        let fx = Fx { usdPerToken: usd, ..fx() };
        check(&Quote { terms, rental, deposit: Uint::from(deposit), fx, ..quote() })
    };
    assert_eq!(paid(1_170_000_000, 2_340_000_000, 1_000_000), Ok(()));
    assert_eq!(paid(2_340_000, 4_680_000, 500_000), Ok(()));
    assert_eq!(paid(1_170_001, 2_340_002, 1_000_000), Err(QuoteError::Price));
    assert_eq!(paid(1_170_000, 2_340_000, 500_000), Err(QuoteError::Price));
    assert_eq!(paid(1_170_001, 2_340_002, 0), Ok(()));
    let short = verify(&quote(), &[0; 64], key.address(), CHAIN, ESCROW);
    assert_eq!(short, Err(QuoteError::Signature(SignatureError::Malformed)));
}

#[test]
fn what_goes_back_is_said_in_the_words_that_quotes_were_signed_with() {
    // other words are another rule: quotes that were signed before would not verify any more, so it needs a version of its own
    let pinned = "0x13c752066db8f9b68bfd96f912f3843e62119abd06465704a0282128a4261a11"
        .parse::<B256>()
        .unwrap();
    assert_eq!(refund_rule(), pinned);
}
