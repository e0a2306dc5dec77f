//! What the market looks like. Prices are the lowest and the highest that marketplaces asked for per GPU and hour in
//! February 2026 (`reference-prices.csv`: Vast.ai, RunPod, GPUFlow), or where none names the model, that anybody asked for
//! one GPU; how common a model is, is an estimate.

/// Something, and how common it is.
pub(super) type Weighted<T> = (u32, T);

/// A model's prices in micro-dollars.
pub(super) struct Band {
    pub(super) name: &'static str,
    pub(super) weight: u32,
    pub(super) low: u32,
    pub(super) high: u32,
}

const fn band(name: &'static str, weight: u32, low: u32, high: u32) -> Band {
    Band { name, weight, low, high }
}

pub(super) const BANDS: &[Band] = &[
    band("rtx-4090", 300, 290_000, 800_000),
    band("rtx-3090", 180, 400_000, 600_000),
    band("rtx-5090", 90, 380_000, 1_080_000),
    band("rtx-a6000", 60, 400_000, 700_000),
    band("h100-sxm", 80, 1_470_000, 2_940_000),
    band("a100-80gb-sxm", 70, 840_000, 1_800_000),
    band("a100-80gb-pcie", 50, 840_000, 1_800_000),
    band("a100-40gb", 40, 800_000, 1_500_000),
    band("h100-pcie", 30, 1_470_000, 2_940_000),
    band("h200-sxm", 20, 2_070_000, 5_070_000),
    band("l4", 30, 350_000, 500_000),
    band("a10g", 20, 1_010_000, 1_300_000),
    band("t4", 20, 350_000, 600_000),
    band("v100-16gb", 10, 700_000, 1_100_000),
];

pub(super) const GPU_COUNTS: &[Weighted<u16>] = &[(50, 1), (18, 2), (14, 4), (18, 8)];

/// Regions of the catalog.
pub(super) const REGIONS: &[Weighted<&str>] = &[
    (120, "us-lax"),
    (90, "us-dal"),
    (90, "us-was"),
    (60, "us-sea"),
    (50, "us-nyc"),
    (60, "ca-mtl"),
    (30, "ca-tor"),
    (70, "de-fra"),
    (30, "de-ber"),
    (40, "se-sto"),
    (30, "fi-hel"),
    (50, "nl-ams"),
    (40, "gb-lon"),
    (40, "fr-par"),
    (40, "pl-waw"),
    (20, "cz-prg"),
    (15, "ro-buh"),
    (20, "bg-sof"),
    (15, "es-mad"),
    (15, "it-mil"),
    (15, "ch-zrh"),
    (20, "no-osl"),
    (10, "is-rey"),
    (10, "ua-iev"),
    (35, "jp-tyo"),
    (35, "kr-sel"),
    (30, "sg-sin"),
    (25, "in-bom"),
    (15, "tw-tpe"),
    (20, "au-syd"),
    (15, "br-sao"),
    (5, "za-jnb"),
    (8, "ae-dxb"),
];
