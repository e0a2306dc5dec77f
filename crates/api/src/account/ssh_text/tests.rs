//! The fingerprints and keys are those of `ssh-keygen`.

use super::*;

#[rustfmt::skip]
const GOOD: &[(&str, &str)] = &[
    (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPw8HJBchohwQHqtlJIgkrqDpPLo6uKmRn4FWWDrTNdT me@laptop",
        "SHA256:oY4nF2PgMJROOgkWpZSfx5NjEiy1nKsIONZkZODno/U",
    ),
    (
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJAgJsfzkoVJLp/jGWUGehrEfmUvkMV1wp0G3pLJGvWMNjohNuDBfeIT3jiv9ShFZbHbZMoyZYSpiaA9noMFzXw= me@laptop",
        "SHA256:yD95XWKejvylqVQDKIKeSfzsLkos0SB4lax85iW2PO8",
    ),
    (
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBN/dHUnXcwlm5mB86SD3oEZgqCHfaJRfx6fmmN2vJUeYJG15crXhaQLVBYnr8k999slg7qeIggT3npP25gN2ceK9ahrHU+9+uZ8rjK2WM56HiywS7kaeWGk5B6hZRSZzpg== me@laptop",
        "SHA256:G5muDOLWR5sNHCSeTW6VQMnT5Po2vjzGD9gCtnc0C6U",
    ),
    (
        "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAFWQuHg/M5/cGtm8OusQouF27QbiwqI1rwYsKnIaaei8PyXHfH1BQgnM/FJvwPkDnaDIgH2+RU9Efgyn1kCtEgkvQCQUxdAcLpcdLtCcBTVj9XjG4XXw9+kWSEj3kh1aj5fla7hVP4YoYdA+Oj24KAilVxqsffV5N4zUtGZI6PM4qP+Ow== me@laptop",
        "SHA256:5y2xC7ZPKGeNBLhf3ROvSoo9tNdVH8CEer+OpxGWxj4",
    ),
    (
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCk5vNy6ZohUngZjcrG2XgVEIOcsJfHkzSMQb84zaRB7RtFYghIUdh2P7keriDjx+EDPYBdbuy4rFaam9Tnql3NsQhLNYkAx8ERCAyG/hkhcFZvnWz98VEuua0oyjfyex2qoASP65DOF8YSlQ0xCHrxm9jFJHHEWnHLnjy+k0ShEfWkucYjiP2zc+ofQQQaMVrEJyVocPi+bXC5Rcy1EXueGxA4Va1M6sG28kyxYOr22KeEk3TZpIsoPsICKdG2IlSeQd8OOZ57DVwOoJZUc9RyPFMeozRSbeSVMJGvC3CyetRCGghPlqTdKb0yoG9UDKvrpuQ5Sr5TFziXBVKEEWLj me@laptop",
        "SHA256:72BbREGQBB792zyBV0ne3rq+QNMOI1o+Sv3M03Nkrfg",
    ),
    (
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCwBIOOvjiXLbuSnrROIQ3qGKZryhSkgE045syN70ZQKWzlLXpntS6z9WeYGyMlAeI+YJiokgcd0UA/PnLFtT2QhHOuRGn2Iras8E/86TN4rFixf+ACRv5wT/fSg+ahI3UvqNkwytMVFImkiADRBjmmVwUvntTe9U2W1GRBjbvVIYsuW5Ajw3w0aZ6hvpDg1KCTSu+FQkJHYstmIwdDew7tug2VyxRqlePBbfI1TppIHEpaJWMvupAbYXy/mC+MBsSzgg8Jyj21gqnBsCYm+6bLLBSf3+0d3jWskrJ+dly4vAiTSQGeYMY/xq8OcmUjHOM3XBJ1x9D8Ld9PYdBcVd7B8Gqt0OytKlYEypWEeZ/OMtKZtMwy9u2fI/pF/YFTsUjQmMsHXTvX2GRupDXS/IPUsfVKxLSatLv0bpVXL8pD4AB9dcSmcKADytN8rMlAlVvzO/DvBnE0B0XXZMRMiPn3c94E059f/3+9qqyU9I6evsKNue7Mqv8BN2Y3JqZDY+E= me@laptop",
        "SHA256:cPQh4J70/EUiPbFMW9rd9nfiM+Xh1lCmT0wv0EOkFV8",
    ),
];
/// 1,024 bits.
#[rustfmt::skip]
const SHORT: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDXdcue4HqZJlYqSr/m7wNfK8zNrK0TbcVNbxhPgjsIsg61oniexYmeuAietHAzYE2kNM0L0RPkIHRECArAnD6fekrd5xGgUnJjGdTIB5zC38fwiMzv6fgdtVY7uM7GIxqdtUiYVp9oK4Ha/aGRjDYuhmlmVoD21zbZvt+HKqYzhw== me@laptop";
/// 1,024 bits, as OpenSSH made them until 2015.
#[rustfmt::skip]
const DSA: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAL/UI1mS7c9FGhr+h4sz6WhheVnOPx9lqN5ScQB4FOiiXy3Zfxz7EPYoJ2iN5qFqOw1GQTimIzJVP8HqNvF/03TGpTh3dzML29chDf8HbOLvh7CxJewdfaCm64yevWn+KddtQzDxRGvqsMEf3suRzjdbyPu8veXAmUFk2DmfdnxFAAAAFQDHjCgdaHyWbDd7mqK7LtsgA1tzmQAAAIAigqMlMuppKPYja/JQS3S6Sg/nXSqeugzfVh2AKnWRWft/8zf1yuO/NynGGcYKPKs1nu77AVwzst8UYar46xi5AHRRMCHaiXggb1xmceDAfp4RXkueMGkcI4ZC6hJqHkjMEdNXww2Ldijb0l5jsinxxAaVRd4RzJ3qlZwhLpyCsQAAAIAFaAaLtSpDq62NGUqYkhOWAN23TZYNWo+aZWqv0UElhE0l3rNU9GppEKz/AEOJLfwlTLhk75Abkyp8GIBqN1ORXHbxigWFoBxMfW3wYhrvV+TMQTL3EI6W93DCJjJmqjuwzekX9/NWNPDjzZcugdZtNGxuK6Av2qGthkxE4ElUjg== me@laptop";
/// A key in a hardware token, of the type that `ssh-keygen -t ed25519-sk` makes.
const TOKEN: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo= me@laptop";

fn refusal(text: &str) -> (Code, String) {
    let problem = read(text).unwrap_err();
    let body = problem.body("/v1/ssh-keys", "r").to_string();
    (problem.code(), body)
}

#[test]
fn a_public_key_is_read_as_openssh_reads_it() {
    for (text, fingerprint) in GOOD {
        let pasted = read(&format!("  {text}\n")).unwrap();
        assert_eq!(pasted.fingerprint, *fingerprint);
        assert_eq!(pasted.comment, "me@laptop");
        assert_eq!(format!("{} me@laptop", pasted.line), *text);
    }
    let bare = read(&read(GOOD[0].0).unwrap().line).unwrap();
    assert_eq!((bare.comment.as_str(), bare.fingerprint.as_str()), ("", GOOD[0].1));
    assert!(read(TOKEN).unwrap().line.starts_with("sk-ssh-ed25519@openssh.com "));
}

#[test]
fn what_is_no_key_is_told_what_it_is() {
    let key = GOOD[0].0;
    for (text, says) in [
        ("", "empty"),
        ("~/.ssh/id_ed25519.pub", "path of a file"),
        ("/home/me/.ssh/id_rsa", "path of a file"),
        ("C:\\Users\\me\\.ssh\\id_rsa.pub", "path of a file"),
        ("id_ed25519.pub", "path of a file"),
        ("$HOME/.ssh/id_rsa.pub", "path of a file"),
        ("./key", "path of a file"),
        ("SHA256:ciQkdxjFUhk2E2vRkWJD9kB8pi+EneOkaCJJHNWzPC4", "fingerprint"),
        (&format!("{key}\n{key}"), "several lines"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "RFC 4716"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM"),
        (&format!("command=\"/bin/sh\" {key}"), "options"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
        ("ssh-ed25519", "as OpenSSH writes it"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "as OpenSSH writes it"),
        (&key.replacen("ssh-ed25519", "ssh-rsa", 1), "as OpenSSH writes it"),
        (&"x".repeat(5_000), "longer"),
    ] {
        let (code, body) = refusal(text);
        assert_eq!(code, Code::NotAPublicKey, "{text}");
        assert!(body.contains(says), "{text}: {body}");
    }
}

#[test]
fn a_private_key_is_refused_and_not_repeated() {
    let inside = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
    for kind in ["OPENSSH PRIVATE", "RSA PRIVATE", "EC PRIVATE", "ENCRYPTED PRIVATE", "PRIVATE"] {
        for text in [
            format!("-----BEGIN {kind} KEY-----\n{inside}\n-----END {kind} KEY-----\n"),
            format!("-----BEGIN {kind} KEY-----\\n{inside}"),
            format!("{} -----begin {} key----- {inside}", GOOD[0].0, kind.to_lowercase()),
        ] {
            let (code, body) = refusal(&text);
            assert_eq!(code, Code::NotAPublicKey);
            assert!(body.contains("private key") && !body.contains("b3Blb"), "{body}");
        }
    }
    let (code, body) = refusal(&format!("PuTTY-User-Key-File-3: ssh-ed25519\n{inside}"));
    assert!(code == Code::NotAPublicKey && !body.contains("b3Blb"), "{body}");
}

#[test]
fn weak_keys_are_refused() {
    let (code, body) = refusal(SHORT);
    assert!(code == Code::ValidationFailed && body.contains("1024 bits"), "{body}");
    let (code, body) = refusal(DSA);
    assert!(code == Code::ValidationFailed && body.contains("DSA"), "{body}");
}

#[test]
fn bits_are_counted_from_the_first_that_is_set() {
    for (bytes, length) in
        [(&[][..], 0), (&[0, 0], 0), (&[1], 1), (&[0, 0x80], 8), (&[0xff, 0], 16), (&[1, 0], 9)]
    {
        assert_eq!(bits(bytes), length);
    }
}
