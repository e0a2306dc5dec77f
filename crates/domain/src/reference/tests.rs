use super::*;

const PRICE_TABLE: &str = include_str!("../../data/reference-prices.csv");
const TERMS_TABLE: &str = include_str!("../../data/platform-terms.csv");

#[test]
fn every_line_of_the_tables_is_read() {
    assert_eq!(prices().len(), PRICE_TABLE.lines().skip(1).count());
    assert_eq!(platforms().len(), TERMS_TABLE.lines().skip(1).count());
    for price in prices() {
        let hourly = matches!(
            price.unit,
            PriceUnit::GpuHour | PriceUnit::InstanceHour | PriceUnit::UnstatedHour
        );
        assert_eq!((price.low.is_some(), price.high.is_some()), (hourly, hourly), "{price:?}");
        assert!(price.low <= price.high, "{price:?}");
        assert!(!price.source.contains(','), "a comma outside of quotes moves columns: {price:?}");
    }
}

#[test]
fn what_is_contradicted_says_by_what() {
    let marks = PRICE_TABLE.lines().skip(1).map(|line| line.rsplit_once(',').unwrap().1);
    assert!(marks.clone().all(|mark| ["", "yes"].contains(&mark)));
    let marked: Vec<_> = prices().iter().filter(|price| price.contradicted).collect();
    assert_eq!(marked.len(), marks.filter(|mark| *mark == "yes").count());
    let named = marked.iter().map(|price| (price.provider.as_str(), price.gpu.as_deref()));
    let expected = [("AWS", Some("A100_80GB")), ("GCP", Some("A100_80GB"))];
    assert!(named.eq(expected), "{marked:?}");
    for price in marked {
        assert!(price.note.as_deref().unwrap().contains("contradiction: "), "{price:?}");
        // the same provider asks exactly that for the 40 GB card
        let same = prices().iter().any(|other| {
            (&other.provider, other.gpu.as_deref(), other.low)
                == (&price.provider, Some("A100_40GB"), price.low)
        });
        assert!(same, "{price:?}");
    }
}

#[test]
fn every_gpu_that_a_source_names_is_in_the_catalog() {
    for price in prices().iter().filter(|price| price.gpu.is_some()) {
        assert!(!price.models.is_empty(), "{:?}", price.gpu);
        let stated = price.vram_gb;
        // one page counts a T4's memory without what is reserved, one an H200's in round figures
        let known = [(14, 16), (140, 141)];
        for model in price.models.iter().filter(|_| stated.is_some()) {
            let fits = stated == Some(model.vram_gb)
                || known.iter().any(|(said, is)| stated == Some(*said) && *is == model.vram_gb);
            assert!(fits, "{} has {stated:?} GB in {:?}", model.slug, price.source);
        }
    }
}

#[test]
fn platforms_with_terms_have_prices_or_say_why_not() {
    for terms in platforms() {
        let priced = prices().iter().any(|price| price.provider == terms.provider);
        let note = terms.note.as_deref().unwrap_or_default();
        assert!(priced || note.contains("no price stated"), "{}", terms.provider);
    }
    assert_eq!(terms_of("AWS").unwrap().minimum_billing, Some(Seconds(60)));
    assert_eq!(terms_of("GPUFlow").unwrap().fee_bps_high, Some(1_500));
}
