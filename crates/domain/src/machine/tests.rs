//! Self-tests are judged by what they show.

use super::*;

fn declared() -> Declared {
    Declared {
        gpu_uuids: vec!["GPU-b".into(), "GPU-a".into()],
        gpu_names: vec!["RTX 4090".into(), "NVIDIA GeForce RTX 4090".into()],
        vram_gb: 24,
        cpu_cores: 16,
        ram_gb: 64,
        disk_gb: 500,
        ports: 10,
        driver_version: None,
        cuda_version: Some(124),
        disk_mb_s: None,
    }
}

fn gpu(uuid: &str) -> MeasuredGpu {
    MeasuredGpu { uuid: uuid.into(), name: "nvidia geforce rtx 4090".into(), vram_mib: 24_564 }
}

fn measured() -> Measured {
    Measured {
        gpus: Some(vec![gpu("GPU-a"), gpu("GPU-b")]),
        driver_version: Some("550.54.15".into()),
        cuda_version: Some(124),
        cpu_cores: Some(16),
        ram_gb: Some(67),
        disk_gb: Some(512),
        disk_mb_s: Some(900),
        ports: Some(10),
        ..Measured::default()
    }
}

/// The ids of what fails, for a machine that this is done to.
fn failing(edit: impl FnOnce(&mut Measured), skew: u64) -> Vec<String> {
    let mut shown = measured();
    edit(&mut shown);
    let asked = requirements(&declared());
    let checks = answer(&asked, &shown, skew);
    assert_eq!(review(&asked, &checks), Ok(checks.iter().all(|check| check.pass)));
    assert!(checks.iter().all(|check| check.pass == check.remediation.is_none()));
    checks.into_iter().filter(|check| !check.pass).map(|check| check.id).collect()
}

#[test]
fn a_machine_that_is_as_declared_passes() {
    assert_eq!(failing(|_| {}, MAX_SKEW_S), Vec::<String>::new());
}

/// What is done to a machine that is as declared.
type Edit = fn(&mut Measured);

#[test]
fn every_check_fails_for_what_it_is_about() {
    let cases: [(&[&str], Edit); 13] = [
        (&["gpu_count", "gpu_uuids"], |m| m.gpus = Some(vec![gpu("GPU-a")])),
        (&["gpu_uuids"], |m| m.gpus = Some(vec![gpu("GPU-a"), gpu("GPU-c")])),
        (&["gpu_names"], |m| {
            m.gpus.iter_mut().flatten().for_each(|gpu| gpu.name = "Tesla T4".into())
        }),
        (&["gpu_vram_mib_least"], |m| {
            m.gpus.iter_mut().flatten().for_each(|gpu| gpu.vram_mib = 15_360)
        }),
        (&["gpu_vram_mib_most"], |m| {
            m.gpus.iter_mut().flatten().for_each(|gpu| gpu.vram_mib = 32_607)
        }),
        (&["driver_version"], |m| m.driver_version = Some("525.60.9".into())),
        (&["driver_version"], |m| m.driver_version = Some("five".into())),
        (&["cuda_version"], |m| m.cuda_version = Some(122)),
        (&["cpu_cores"], |m| m.cpu_cores = Some(15)),
        (&["ram_gb"], |m| m.ram_gb = None),
        (&["disk_gb"], |m| m.disk_gb = Some(499)),
        (&["disk_mb_s"], |m| m.disk_mb_s = Some(MIN_DISK_MB_S - 1)),
        (&["ports"], |m| m.ports = Some(9)),
    ];
    for (fails, edit) in cases {
        assert_eq!(failing(edit, 0), fails);
    }
    assert_eq!(failing(|_| {}, MAX_SKEW_S + 1), ["clock_skew_s"]);
    let none = failing(|m| m.gpus = None, 0);
    assert_eq!(
        none,
        ["gpu_count", "gpu_uuids", "gpu_names", "gpu_vram_mib_least", "gpu_vram_mib_most"]
    );
}

#[test]
fn an_answer_that_flatters_itself_is_not_taken() {
    let asked = requirements(&declared());
    let good = answer(&asked, &measured(), 0);
    let mut flattering = answer(&asked, &Measured::default(), 0);
    flattering[0].pass = true;
    let error = review(&asked, &flattering).unwrap_err();
    assert!(error.to_string().contains("gpu_count is called enough"), "{error}");
    let mut easier = good.clone();
    easier[7].required = Reading::Number(1);
    assert_eq!(review(&asked, &easier), Err(AnswerError::OtherQuestions(7)));
    assert_eq!(review(&asked, &good[..12]), Err(AnswerError::OtherQuestions(12)));
    let mut more = good.clone();
    more.push(good[0].clone());
    assert_eq!(review(&asked, &more), Err(AnswerError::OtherQuestions(13)));
}

#[test]
fn a_report_contradicts_only_what_it_speaks_of() {
    let said = declared();
    assert!(contradictions(&said, &Measured::default()).is_empty());
    assert!(contradictions(&said, &measured()).is_empty());
    let mut worse = measured();
    worse.gpus = Some(vec![MeasuredGpu { name: "Tesla T4".into(), ..gpu("GPU-a") }]);
    worse.cpu_cores = Some(8);
    assert_eq!(
        contradictions(&said, &worse),
        ["GPU GPU-a is a Tesla T4", "GPU GPU-b is missing", "8 CPU cores in place of 16"]
    );
}

#[test]
fn a_reports_memory_of_gpus_is_held_against_the_model_as_a_self_tests_is() {
    let with = |vram_mib: u32| {
        let gpus = vec![MeasuredGpu { vram_mib, ..gpu("GPU-A") }, gpu("GPU-b")];
        Measured { gpus: Some(gpus), ..Measured::default() }
    };
    let (least, most) = vram_mib(24);
    assert_eq!((least, most), (22_118, 27_033));
    for fits in [22_118, 24_564, 27_033] {
        assert!(contradictions(&declared(), &with(fits)).is_empty(), "{fits}");
    }
    for wrong in [0, 22_117, 27_034] {
        let said = contradictions(&declared(), &with(wrong));
        assert_eq!(said, [format!("GPU GPU-A has {wrong} MiB in place of 24 GB")]);
    }
    // nothing is said of a GPU that nobody declared
    let gpus = vec![gpu("GPU-a"), gpu("GPU-b"), MeasuredGpu { vram_mib: 1, ..gpu("GPU-c") }];
    let more = Measured { gpus: Some(gpus), ..Measured::default() };
    assert!(contradictions(&declared(), &more).is_empty());
}

#[test]
fn a_gpu_is_the_same_however_its_id_is_spelled() {
    for (given, one) in [
        ("GPU-5F0C2A86", "GPU-5f0c2a86"),
        ("gpu-5f0C2a86", "GPU-5f0c2a86"),
        ("mig-5F0C", "MIG-5f0c"),
        ("0X17B4", "0x17b4"),
        ("GPU", "gpu"),
        ("é", "é"),
    ] {
        assert_eq!(gpu_uuid(given), one);
        assert_eq!(gpu_uuid(one), one);
    }
    let spelled = |uuid: &str| Reading::Names(vec![uuid.to_owned()]);
    assert!(judge(Op::Equal, &spelled("GPU-5F0C"), &spelled("GPU-5f0c")));
    assert!(!judge(Op::Equal, &spelled("GPU-5F0D"), &spelled("GPU-5f0c")));
    assert!(failing(|m| m.gpus = Some(vec![gpu("GPU-A"), gpu("gpu-b")]), 0).is_empty());
}
