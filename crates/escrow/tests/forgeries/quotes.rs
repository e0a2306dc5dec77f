//! Quotes that the platform did not sign.

use alloy::primitives::Uint;
use escrow::{
    quote::{self, Fx, Line, Order, Quote},
    terms_hash,
};

use super::*;

/// Of each half: a quote has forty fields, and to hash them takes long in a program that is not optimised.
const FEWER: u64 = 5_000;
const ESCROW: Address = Address::repeat_byte(0xe5);

fn quote() -> Quote {
    let terms = quote::Terms {
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        token: Address::repeat_byte(3),
        pricePerHour: Uint::from(1_170_001),
        feeBps: 1_200,
        startBy: Uint::from(1_800_003_600),
        holdback: 3_600,
        orderHash: B256::repeat_byte(4),
    };
    let line = |kind: &str, max| Line {
        kind: kind.to_owned(),
        unit: "hour".to_owned(),
        unitPrice: max / 2,
        quantity: 2,
        max,
    };
    Quote {
        id: "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
        order: Order {
            offer: "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
            offerVersion: 3,
            machine: "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
            gpuModel: "h100-sxm".to_owned(),
            gpuCount: 2,
            durationSecs: 7_200,
            diskGb: 100,
            upGb: 10,
            downGb: 20,
            template: "pytorch@2".to_owned(),
        },
        lines: vec![line("compute", 2_600_000), line("reserved_discount", -260_000)],
        usdPerHour: 1_170_000,
        usdMax: 2_340_000,
        rental: terms_hash(&(&terms).into(), &domain(31_337, ESCROW)),
        terms,
        deposit: Uint::from(2_340_002),
        fx: Fx {
            usdPerToken: 1_000_000,
            source: "fixed".to_owned(),
            pricedAt: Uint::from(1_799_999_990),
        },
        createdAt: Uint::from(1_800_000_000),
        expiresAt: Uint::from(1_800_000_300),
        readySecs: 120,
        noticeSecs: 300,
        refundRule: quote::refund_rule(),
    }
}

/// The quote with one field changed.
fn other_quote(random: &mut Random) -> Quote {
    let mut quote = quote();
    let more = 1 + random.below(1_000);
    let (less, word) = (more as u32, random.word());
    match random.below(28) {
        0 => quote.id.push('0'),
        1 => quote.order.offer.push('0'),
        2 => quote.order.offerVersion += less,
        3 => quote.order.machine.push('0'),
        4 => quote.order.gpuModel.push('x'),
        5 => quote.order.gpuCount += less as u16,
        6 => quote.order.durationSecs += less,
        7 => quote.order.diskGb += less,
        8 => quote.order.upGb += less,
        9 => quote.order.downGb += less,
        10 => quote.order.template.clear(),
        11 => quote.lines.swap(0, 1),
        12 => quote.lines[random.below(2) as usize].max += i64::from(less),
        13 => quote.lines[random.below(2) as usize].unitPrice -= i64::from(less),
        14 => quote.usdPerHour += more,
        15 => quote.usdMax += more,
        16 => quote.rental = word,
        17 => quote.terms.renter = Address::from_word(word),
        18 => quote.terms.provider = Address::from_word(word),
        19 => quote.terms.token = Address::from_word(word),
        20 => quote.terms.pricePerHour = Uint::from(1_170_001 + more),
        21 => quote.terms.feeBps += less as u16,
        22 => quote.terms.startBy = Uint::from(1_800_003_600 + more),
        23 => quote.deposit = Uint::from(2_340_002 + more),
        24 => quote.fx.usdPerToken += more,
        25 => quote.createdAt = Uint::from(1_800_000_000 + more),
        26 => quote.expiresAt = Uint::from(1_800_000_300 + more),
        _ => quote.refundRule = word,
    }
    quote
}

fn try_quotes(seed: u64) {
    let place = quote::domain(31_337, ESCROW);
    let elsewhere = |random: &mut Random| match random.below(3) {
        0 => quote::domain(31_338 + random.below(1_000), ESCROW),
        1 => quote::domain(31_337, Address::from_word(random.word())),
        // the escrow's own
        _ => domain(31_337, ESCROW),
    };
    let takes = |quote: &Quote, signature: &[u8], place: &Eip712Domain, by| {
        let (chain, escrow) = (place.chain_id.unwrap().to(), place.verifying_contract.unwrap());
        is_by(quote, signature, place, by)
            || (*place == quote::domain(chain, escrow)
                && quote::verify(quote, signature, by, chain, escrow).is_ok())
    };
    try_all((seed, FEWER), &quote(), &place, elsewhere, other_quote, takes);
}

#[test]
fn no_changed_quote_is_the_platforms() {
    try_quotes(SEED + 8);
}

#[test]
fn nor_is_any_quote_of_the_other_half() {
    try_quotes(SEED + 9);
}
