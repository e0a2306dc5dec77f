//! The attacker holds the API process, so the quoting key and every session, and can write whatever it likes into the
//! database. The worker with the operator's key goes on working with that database, on the real contract. Nobody gets
//! more out of the escrow than its rules allow, and what the books say falsely is found.

mod books;
mod bytes;
mod ends;
mod rules;
mod terms;
mod thief;
