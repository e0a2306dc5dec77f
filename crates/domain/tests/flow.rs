//! `docs/FLOW.md` says what the code does.

#![allow(clippy::expect_used)]

use std::path::Path;

use domain::table::{rental_tables, tx_table};

fn with_section(page: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- begin generated: {name} -->\n");
    let end = format!("<!-- end generated: {name} -->");
    let (head, rest) = page.split_once(&begin).expect("the page has the section's begin");
    let (_, tail) = rest.split_once(&end).expect("the page has the section's end");
    format!("{head}{begin}{content}\n{end}{tail}")
}

#[test]
fn the_page_holds_the_tables_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/FLOW.md");
    let page = std::fs::read_to_string(&path).expect("docs/FLOW.md can be read");
    let tables = rental_tables().expect("the situations can be reached");
    let fresh = with_section(&page, "rental", &tables);
    let fresh = with_section(&fresh, "tx", &tx_table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, fresh).expect("docs/FLOW.md can be written");
        return;
    }
    assert!(
        page == fresh,
        "docs/FLOW.md is stale: run UPDATE_DOCS=1 cargo test -p domain --test flow"
    );
}
