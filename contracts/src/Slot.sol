// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Rental, Status} from "./IEscrow.sol";

/// @notice A rental in one storage word, so that each call reads and writes a single slot. From the top:
/// deposit u96 | since u40 | settledSecs u32 | contestedSecs u32 | deadline u40 | flags u8 | status u8.
/// Once contested the start is no longer needed, and `since` holds `claimSecs`.
type Slot is uint256;

using SlotFields for Slot global;

/// @title Reading and changing a packed rental
library SlotFields {
    uint256 private constant DEPOSIT = 160;
    uint256 private constant SINCE = 120;
    uint256 private constant SETTLED = 88;
    uint256 private constant CONTESTED = 56;
    uint256 private constant DEADLINE = 16;

    /// @notice What is left of a rental closed before its `startBy`, so that its id cannot be locked again.
    Slot internal constant TOMBSTONE = Slot.wrap(uint256(Status.Closed));
    uint256 internal constant RENTER_DISPUTES = 1 << 8;
    uint256 internal constant PROVIDER_DISPUTES = 1 << 9;

    /// @notice A rental locked at `lockedAt`.
    function locked(uint96 amount, uint40 lockedAt) internal pure returns (Slot) {
        return Slot.wrap(uint256(amount) << DEPOSIT | uint256(lockedAt) << SINCE | uint256(Status.Locked));
    }

    /// @notice The locked rental `self`, started at `startedAt`.
    function started(Slot self, uint40 startedAt) internal pure returns (Slot) {
        return Slot.wrap(uint256(self.deposit()) << DEPOSIT | uint256(startedAt) << SINCE | uint256(Status.Active));
    }

    /// @notice The active rental `self` with `settled` seconds paid, and `claim + credit` held until `until`.
    function contested(
        Slot self,
        uint32 settled,
        uint32 claim,
        uint32 credit,
        uint40 until
    )
        internal
        pure
        returns (Slot)
    {
        return Slot.wrap(
            uint256(self.deposit()) << DEPOSIT | uint256(claim) << SINCE | uint256(settled) << SETTLED
                | (uint256(claim) + credit) << CONTESTED | uint256(until) << DEADLINE | uint256(Status.Contested)
        );
    }

    /// @notice The contested rental `self`, disputed by `side`, to be decided until `until`.
    function disputed(Slot self, uint256 side, uint40 until) internal pure returns (Slot) {
        uint256 cleared = Slot.unwrap(self) & ~(uint256(type(uint40).max) << DEADLINE);
        return Slot.wrap(cleared | uint256(until) << DEADLINE | side);
    }

    /// @notice `self` with another deposit.
    function withDeposit(Slot self, uint96 amount) internal pure returns (Slot) {
        return Slot.wrap(Slot.unwrap(self) << 96 >> 96 | uint256(amount) << DEPOSIT);
    }

    /// @notice `self` with `secs` paid.
    function withSettled(Slot self, uint32 secs) internal pure returns (Slot) {
        uint256 cleared = Slot.unwrap(self) & ~(uint256(type(uint32).max) << SETTLED);
        return Slot.wrap(cleared | uint256(secs) << SETTLED);
    }

    // Casts below cut a field out of the word on purpose.
    // forge-lint: disable-start(unsafe-typecast)

    function isNone(Slot self) internal pure returns (bool) {
        return Slot.unwrap(self) == 0;
    }

    /// @notice Whether the rental is in `status_`; cheaper than reading the status.
    function isIn(Slot self, Status status_) internal pure returns (bool) {
        return uint8(Slot.unwrap(self)) == uint8(status_);
    }

    function status(Slot self) internal pure returns (Status) {
        return Status(uint8(Slot.unwrap(self)));
    }

    function deposit(Slot self) internal pure returns (uint96) {
        return uint96(Slot.unwrap(self) >> DEPOSIT);
    }

    function since(Slot self) internal pure returns (uint40) {
        return uint40(Slot.unwrap(self) >> SINCE);
    }

    function settledSecs(Slot self) internal pure returns (uint32) {
        return uint32(Slot.unwrap(self) >> SETTLED);
    }

    function contestedSecs(Slot self) internal pure returns (uint32) {
        return uint32(Slot.unwrap(self) >> CONTESTED);
    }

    /// @notice Of a contested rental.
    function claimSecs(Slot self) internal pure returns (uint32) {
        return uint32(Slot.unwrap(self) >> SINCE);
    }

    /// @notice Of a contested rental: the held seconds beyond the claim.
    function creditSecs(Slot self) internal pure returns (uint32) {
        return self.contestedSecs() - self.claimSecs();
    }

    function deadline(Slot self) internal pure returns (uint40) {
        return uint40(Slot.unwrap(self) >> DEADLINE);
    }

    function isDisputed(Slot self) internal pure returns (bool) {
        return Slot.unwrap(self) & (RENTER_DISPUTES | PROVIDER_DISPUTES) != 0;
    }

    function isDisputedBy(Slot self, uint256 side) internal pure returns (bool) {
        return Slot.unwrap(self) & side != 0;
    }

    /// @notice Every field.
    function unpack(Slot self) internal pure returns (Rental memory r) {
        r.status = self.status();
        r.deposit = self.deposit();
        r.settledSecs = self.settledSecs();
        if (r.status == Status.Contested) {
            r.contestedSecs = self.contestedSecs();
            r.claimSecs = self.claimSecs();
            r.deadline = self.deadline();
            r.renterDisputes = self.isDisputedBy(RENTER_DISPUTES);
            r.providerDisputes = self.isDisputedBy(PROVIDER_DISPUTES);
        } else {
            r.since = self.since();
        }
    }

    // forge-lint: disable-end(unsafe-typecast)
}
