//! Who asks about the things of one rental.

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No token at all.
    Nobody,
    /// Somebody who signed in and has nothing to do with it.
    Other,
    /// A key of theirs, with every scope.
    OthersKey,
    /// A key of the owner's, with every scope but the one that is needed.
    OwnersKeyWithoutScope,
    /// A key of the owner's that is limited to another machine, with every scope that such a key can have.
    LimitedKey,
    /// The token that came with the rental's payment.
    Token,
    /// The agent of another machine.
    OtherAgent,
    /// The agent of the machine that the rental runs on.
    Agent,
    /// The rental's renter.
    Renter,
    /// The machine's owner.
    Provider,
}

impl Role {
    pub const ALL: &[Self] = &[
        Self::Nobody,
        Self::Other,
        Self::OthersKey,
        Self::OwnersKeyWithoutScope,
        Self::LimitedKey,
        Self::Token,
        Self::OtherAgent,
        Self::Agent,
        Self::Renter,
        Self::Provider,
    ];
}
