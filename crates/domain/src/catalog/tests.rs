use std::collections::BTreeSet;

use super::*;

/// Every line of a table, without the first.
fn lines(table: &str) -> usize {
    table.lines().skip(1).count()
}

#[test]
fn every_line_of_the_tables_is_read() {
    assert_eq!(models().len(), lines(include_str!("../../data/gpu-models.csv")));
    assert_eq!(regions().len(), lines(include_str!("../../data/regions.csv")));
    for line in include_str!("../../data/gpu-models.csv").lines() {
        assert_eq!(line.split(',').count(), 14, "{line}");
    }
    // a figure that is there is a number
    let filled = include_str!("../../data/gpu-models.csv").lines().skip(1);
    for (line, model) in filled.zip(models()) {
        let figures = [model.fp32_gflops, model.fp16_gflops, model.memory_gb_s];
        for (text, figure) in line.split(',').skip(7).zip(figures) {
            assert_eq!(text, figure.map(|figure| figure.to_string()).unwrap_or_default(), "{line}");
        }
    }
}

#[test]
fn slugs_and_codes_are_unique_sorted_and_well_formed() {
    let slugs: Vec<&str> = models().iter().map(|model| model.slug.as_str()).collect();
    let sorted: BTreeSet<&str> = slugs.iter().copied().collect();
    assert_eq!(slugs, sorted.into_iter().collect::<Vec<_>>());
    for model in models() {
        crate::offer::GpuModelSlug::new(model.slug.as_str()).unwrap();
        assert!(["nvidia", "amd"].contains(&model.vendor.as_str()), "{}", model.slug);
        let (major, minor) = model.compute_capability.split_once('.').unwrap();
        assert!(major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok(), "{}", model.slug);
        assert!((1..=1_024).contains(&model.vram_gb), "{}", model.slug);
    }
    let codes: Vec<&str> = regions().iter().map(|region| region.code.as_str()).collect();
    let sorted: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(codes, sorted.into_iter().collect::<Vec<_>>());
    for code in codes {
        let (country, place) = code.split_once('-').unwrap();
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase());
        assert!(
            country.len() == 2 && letters(country) && place.len() == 3 && letters(place),
            "{code}"
        );
    }
    assert_eq!(region("de-fra").unwrap().continent, Continent::Europe);
    assert!(is_place("de-fra") && is_place("de"));
    for nowhere in ["", "d", "de-", "de-xyz", "DE", "de-fra-1", "xx", "fra"] {
        assert!(!is_place(nowhere), "{nowhere}");
    }
}

#[test]
fn countries_are_those_of_iso_3166() {
    let letters = b'a'..=b'z';
    let pairs = letters.clone().flat_map(|one| letters.clone().map(move |other| [one, other]));
    let codes = pairs.map(|pair| String::from_utf8(pair.to_vec()).unwrap());
    let countries: Vec<String> = codes.filter(|code| is_country(code)).collect();
    let (others, assigned): (Vec<_>, Vec<_>) = countries.iter().partition(|it| it.starts_with('x'));
    assert_eq!((assigned.len(), others.len()), (249, 26));
    for region in regions() {
        assert!(is_country(region.code.split('-').next().unwrap()), "{}", region.code);
    }
    for nowhere in ["", " ", "d", "DE", "de-fra", "zz", "uk", "de "] {
        assert!(!is_country(nowhere), "{nowhere}");
    }
}

/// What was in the first migration can be pointed at by rows, and stays.
#[test]
fn the_first_models_keep_their_slugs() {
    for slug in [
        "rtx-3090",
        "rtx-4090",
        "rtx-5090",
        "rtx-a6000",
        "v100-16gb",
        "t4",
        "l4",
        "a10g",
        "a100-40gb",
        "a100-80gb-pcie",
        "a100-80gb-sxm",
        "h100-pcie",
        "h100-sxm",
        "h200-sxm",
    ] {
        assert!(model_by_slug(slug).is_some(), "{slug}");
    }
}

fn one(name: &str) -> &'static str {
    &resolve(name, Hint::default()).unwrap_or_else(|why| panic!("{why}")).slug
}

#[test]
fn spellings_of_others_are_understood() {
    for (slug, names) in [
        // Vast with spaces and underscores, gpuhunt and SkyPilot, RunPod and nvidia-smi, the reference tables
        (
            "rtx-4090",
            &["RTX 4090", "RTX_4090", "RTX4090", "NVIDIA GeForce RTX 4090", "rtx-4090"][..],
        ),
        (
            "rtx-6000-ada",
            &["RTX 6000Ada", "RTX6000Ada", "RTX6000-Ada", "NVIDIA RTX 6000 Ada Generation"],
        ),
        ("rtx-a6000", &["RTX A6000", "A6000", "RTXA6000", "NVIDIA RTX A6000", "RTX_A6000"]),
        ("rtx-4070-ti-super", &["RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER"]),
        ("t4", &["Tesla T4", "T4", "NVIDIA T4", "T4_16GB"]),
        ("l4", &["NVIDIA L4", "L4_24GB"]),
        ("a10g", &["A10G", "A10G_24GB"]),
        ("p100", &["Tesla P100", "P100_16GB", "Tesla P100-PCIE-16GB"]),
        ("v100-16gb", &["Tesla V100-SXM2-16GB", "V100 SXM 16GB"]),
        ("v100-32gb", &["V100-32GB", "Tesla V100-SXM2-32GB"]),
        ("a100-40gb", &["NVIDIA A100-SXM4-40GB", "A100 SXM 40 GB"]),
        (
            "a100-80gb-sxm",
            &["NVIDIA A100-SXM4-80GB", "A100_SXM_80GB", "A100-80GB-SXM", "a100 sxm4 80gb"],
        ),
        ("a100-80gb-pcie", &["NVIDIA A100 80GB PCIe", "A100_PCIE_80GB"]),
        ("h100-sxm", &["NVIDIA H100 80GB HBM3", "H100 SXM", "H100_SXM5_80GB"]),
        ("h100-pcie", &["H100 PCIE", "H100_PCIE_80GB", "NVIDIA H100 PCIe"]),
        ("h100-nvl", &["H100NVL", "NVIDIA H100 NVL", "H100-NVL"]),
        ("h200-sxm", &["NVIDIA H200", "H200 SXM"]),
        ("h200-nvl", &["NVIDIA H200 NVL", "H200NVL"]),
        ("gh200", &["GH200 SXM", "GH200"]),
        ("mi300x", &["AMD Instinct MI300X OAM", "MI300X"]),
        ("b200", &["B200", "NVIDIA B200"]),
    ] {
        for name in names {
            assert_eq!(one(name), slug, "{name}");
        }
    }
}

#[test]
fn a_name_of_several_models_asks_for_what_tells_them_apart() {
    let why = resolve("A100", Hint::default()).unwrap_err();
    let Unresolved::Ambiguous { candidates, ask, .. } = &why else { panic!("{why}") };
    assert_eq!(*candidates, ["a100-40gb", "a100-40gb-pcie", "a100-80gb-pcie", "a100-80gb-sxm"]);
    assert_eq!(*ask, "memory and form");
    assert!(why.to_string().contains("say memory and form"), "{why}");

    let hint = |vram_gb, form| Hint { vram_gb, form };
    let eighty = hint(Some(80), None);
    assert!(matches!(resolve("A100", eighty), Err(Unresolved::Ambiguous { ask: "form", .. })));
    let sxm = hint(Some(80), Some(Form::Sxm));
    assert_eq!(resolve("NVIDIA A100", sxm).unwrap().slug, "a100-80gb-sxm");
    assert_eq!(resolve("A100 SXM4", eighty).unwrap().slug, "a100-80gb-sxm");
    let odd = resolve("A100", hint(Some(24), None));
    assert!(matches!(odd, Err(Unresolved::Contradicted { .. })), "{odd:?}");
    assert!(matches!(
        resolve("RTX 4090 48GB", Hint::default()),
        Err(Unresolved::Contradicted { .. })
    ));
    // the older card of this name, and the Ada
    assert!(matches!(
        resolve("RTX 6000", Hint::default()),
        Err(Unresolved::Ambiguous { ask: "memory", .. })
    ));
}

#[test]
fn what_nobody_calls_a_gpu_is_unknown() {
    for name in [
        "",
        " ",
        "NVIDIA",
        "GeForce",
        "80GB",
        "RTX 9999",
        "'; DROP TABLE gpus",
        &"A100 ".repeat(100),
    ] {
        assert!(
            matches!(resolve(name, Hint::default()), Err(Unresolved::Unknown { .. })),
            "{name:?}"
        );
        assert!(candidates(name).is_empty());
    }
}

#[test]
fn candidates_are_all_that_a_name_leaves_open() {
    let slugs = |name| candidates(name).iter().map(|model| model.slug.as_str()).collect::<Vec<_>>();
    assert_eq!(slugs("A100_80GB"), ["a100-80gb-pcie", "a100-80gb-sxm"]);
    assert_eq!(slugs("H100_80GB"), ["h100-pcie", "h100-sxm"]);
    assert_eq!(slugs("H200_140GB"), ["h200-nvl", "h200-sxm"]);
    assert_eq!(slugs("V100_16GB"), ["v100-16gb", "v100-16gb-pcie"]);
    assert_eq!(slugs("rtx-4090"), ["rtx-4090"]);
    // the driver calls cards of different memory the same
    assert_eq!(slugs("NVIDIA GeForce RTX 3080"), ["rtx-3080", "rtx-3080-12gb"]);
    assert_eq!(slugs("NVIDIA GeForce RTX 4060 Ti"), ["rtx-4060-ti-16gb", "rtx-4060-ti-8gb"]);
    assert_eq!(slugs("NVIDIA GeForce RTX 5060 Ti"), ["rtx-5060-ti-16gb", "rtx-5060-ti-8gb"]);
    assert_eq!(slugs("RTX 3080"), ["rtx-3080"]);
}

#[test]
fn a_search_for_a_family_is_for_all_of_it() {
    let slugs = |name| sought(name).iter().map(|model| model.slug.as_str()).collect::<Vec<_>>();
    for (name, found) in [
        ("H100", &["h100-nvl", "h100-pcie", "h100-sxm"][..]),
        ("H200", &["h200-nvl", "h200-sxm"]),
        ("NVIDIA H200", &["h200-sxm"]),
        ("A100", &["a100-40gb", "a100-40gb-pcie", "a100-80gb-pcie", "a100-80gb-sxm"]),
        ("A100 SXM4", &["a100-40gb", "a100-80gb-sxm"]),
        ("A100 PCIE", &["a100-40gb-pcie", "a100-80gb-pcie"]),
        ("A100_SXM_80GB", &["a100-80gb-sxm"]),
        ("H100_PCIE_80GB", &["h100-pcie"]),
        ("V100", &["v100-16gb", "v100-16gb-pcie", "v100-32gb"]),
        ("Tesla V100", &["v100-16gb", "v100-16gb-pcie", "v100-32gb"]),
        ("RTX 4060 Ti", &["rtx-4060-ti-16gb", "rtx-4060-ti-8gb"]),
        ("RTX_3080", &["rtx-3080", "rtx-3080-12gb"]),
        ("T4_16GB", &["t4"]),
        // a slug is never anything else
        ("rtx-3080", &["rtx-3080"]),
        ("a100-40gb", &["a100-40gb"]),
        ("rtx-4091", &[]),
        ("", &[]),
        (&"H100 ".repeat(40), &[]),
    ] {
        assert_eq!(slugs(name), found, "{name}");
    }
}

/// Each model can be named by what each of the others calls it, at least with memory and form beside.
#[test]
fn no_model_is_unreachable() {
    for model in models() {
        let all = [&model.slug, &model.name, &model.gpuhunt, &model.skypilot];
        for name in all.into_iter().chain(&model.aliases) {
            let hint = Hint { vram_gb: Some(model.vram_gb), form: Some(model.form) };
            assert_eq!(
                resolve(name, hint).map(|found| found.slug.as_str()),
                Ok(model.slug.as_str()),
                "{name}"
            );
        }
        assert_eq!(one(&model.slug), model.slug);
    }
}
