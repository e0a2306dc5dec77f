//! `docs/ACCESS.md`.

use std::fmt::Write as _;

use super::{
    operations,
    role::Role,
    row_of, scope_in,
    table::{Cell, Row},
};

const HEAD: &str = "# Who may do what

Every operation of the OpenAPI document, asked about the things of one rental: its renter, its provider, their machine.
A number is the status of the refusal. `own` is an answer about the caller's own things, `yes` an answer about this one,
`all` an answer for everybody. What is not the caller's is not found (404): nobody is told that it exists.

A key with every scope does what its wallet does where a scope is named; where none is, only somebody who signed in may.
`proof` operations take no token: the body holds a secret or a signature that says who asks. The limited key is the owner's,
for another machine, with every scope that such a key can have. The rental's token came with its payment (x402); `POST
/v1/rentals` by nobody, for an offer, is answered with the price (402), and the same with a payment books it.

This page is made by `crates/api/tests/it/access.rs`, which asks for every refusal in it and then looks whether anything
was changed: `UPDATE_DOCS=1 cargo test -p api --test it access` rewrites it.

| operation | scope of a key | nobody | another wallet | its key | own key without the scope | own key for another machine | the rental's token | another agent | the machine's agent | renter | provider |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn text(cell: Cell) -> String {
    match cell {
        Cell::Anybody => "all".to_owned(),
        Cell::OfTheirOwn => "own".to_owned(),
        Cell::Yes => "yes".to_owned(),
        Cell::Refused(status) => status.to_string(),
    }
}

fn line(page: &mut String, row: &Row, scope: Option<&str>) {
    let needed = match (row.whose.scheme(), scope) {
        ("wallet", Some(scope)) => format!("`{scope}`"),
        ("wallet", None) => "no keys".to_owned(),
        ("agent", _) => "agents".to_owned(),
        _ if row.whose == super::table::Whose::Proof => "proof".to_owned(),
        _ => String::new(),
    };
    let cells: Vec<String> = Role::ALL.iter().map(|role| text(row.cell(*role, scope))).collect();
    writeln!(page, "| `{} {}` | {needed} | {} |", row.method, row.path, cells.join(" | ")).unwrap();
}

pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for (method, path, security) in operations() {
        if let Some(row) = row_of(&method, &path) {
            line(&mut page, row, scope_in(&security).as_deref());
        }
    }
    page
}
