// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Rental, Status} from "../src/IEscrow.sol";
import {Slot, SlotFields} from "../src/Slot.sol";
import {Test} from "forge-std/Test.sol";

contract SlotTest is Test {
    /// @dev Either side disputes.
    uint256 private constant FLAGS = SlotFields.RENTER_DISPUTES | SlotFields.PROVIDER_DISPUTES;

    /// @dev What is not contested: `claim`, `contested`, `deadline` and the disputes do not count.
    struct Raw {
        bool isActive;
        uint96 deposit;
        uint40 since;
        uint32 settledSecs;
    }

    /// @dev A contested rental. Together claim and credit fit 32 bits: they are seconds of one rental.
    struct Held {
        uint96 deposit;
        uint32 settledSecs;
        uint32 claimSecs;
        uint32 creditSecs;
        uint40 deadline;
    }

    function testFuzz_Locked_IsLossless(uint96 deposit, uint40 lockedAt) public pure {
        _assertIs(SlotFields.locked(deposit, lockedAt), _plain(Status.Locked, deposit, lockedAt, 0));
    }

    function testFuzz_Started_KeepsTheDeposit(uint96 deposit, uint40 lockedAt, uint40 startedAt) public pure {
        Slot slot = SlotFields.locked(deposit, lockedAt).started(startedAt);
        _assertIs(slot, _plain(Status.Active, deposit, startedAt, 0));
    }

    function testFuzz_WithDeposit_ChangesNothingElse(Raw memory raw, uint96 deposit) public pure {
        Rental memory r = _rental(raw);
        Slot slot = _pack(r).withDeposit(deposit);
        r.deposit = deposit;
        _assertIs(slot, r);
    }

    function testFuzz_WithSettled_ChangesNothingElse(Raw memory raw, uint32 secs) public pure {
        Rental memory r = _rental(raw);
        Slot slot = _pack(r).withSettled(secs);
        r.settledSecs = secs;
        _assertIs(slot, r);
    }

    function testFuzz_Unpack_IsLossless(Raw memory raw) public pure {
        Rental memory r = _rental(raw);
        _assertIs(_pack(r), r);
    }

    function testFuzz_Contested_IsLossless(Raw memory raw, Held memory h) public pure {
        h.claimSecs = uint32(bound(h.claimSecs, 0, type(uint32).max - h.creditSecs));
        raw.deposit = h.deposit;
        Slot slot = _pack(_rental(raw)).contested(h.settledSecs, h.claimSecs, h.creditSecs, h.deadline);
        _assertIs(slot, _held(h));
        assertEq(slot.contestedSecs(), h.claimSecs + h.creditSecs, "contested");
        assertEq(slot.claimSecs(), h.claimSecs, "claim");
        assertEq(slot.creditSecs(), h.creditSecs, "credit");
        assertEq(slot.deadline(), h.deadline, "deadline");
        assertFalse(slot.isDisputed(), "nobody disputes yet");
    }

    function testFuzz_Disputed_ChangesNothingElse(
        Held memory h,
        bool renterFirst,
        bool both,
        uint40 until
    )
        public
        pure
    {
        h.claimSecs = uint32(bound(h.claimSecs, 0, type(uint32).max - h.creditSecs));
        uint256 first = renterFirst ? SlotFields.RENTER_DISPUTES : SlotFields.PROVIDER_DISPUTES;
        Rental memory r = _held(h);
        Slot slot = _pack(r).disputed(first, until);
        r.deadline = until;
        r.renterDisputes = renterFirst;
        r.providerDisputes = !renterFirst;
        _assertIs(slot, r);
        assertTrue(slot.isDisputed() && slot.isDisputedBy(first), "by the one");
        assertFalse(slot.isDisputedBy(first ^ FLAGS), "not by the other");
        if (!both) return;
        slot = slot.disputed(first ^ FLAGS, until);
        r.renterDisputes = r.providerDisputes = true;
        _assertIs(slot, r);
    }

    function testFuzz_IsIn_TellsTheStatus(Held memory h, uint8 other) public pure {
        h.claimSecs = uint32(bound(h.claimSecs, 0, type(uint32).max - h.creditSecs));
        Slot slot = _pack(_held(h)).disputed(FLAGS, h.deadline);
        Status status = Status(other % (uint8(type(Status).max) + 1));
        assertEq(slot.isIn(status), status == Status.Contested, "contested");
    }

    function test_Tombstone() public pure {
        _assertIs(SlotFields.TOMBSTONE, _plain(Status.Closed, 0, 0, 0));
        assertFalse(SlotFields.TOMBSTONE.isNone());
        assertTrue(Slot.wrap(0).isNone());
    }

    function _rental(Raw memory raw) private pure returns (Rental memory) {
        return _plain(raw.isActive ? Status.Active : Status.Locked, raw.deposit, raw.since, raw.settledSecs);
    }

    function _plain(Status status, uint96 deposit, uint40 since, uint32 settled)
        private
        pure
        returns (Rental memory r)
    {
        (r.status, r.deposit, r.since, r.settledSecs) = (status, deposit, since, settled);
    }

    function _held(Held memory h) private pure returns (Rental memory r) {
        (r.status, r.deposit, r.settledSecs) = (Status.Contested, h.deposit, h.settledSecs);
        (r.contestedSecs, r.claimSecs, r.deadline) = (h.claimSecs + h.creditSecs, h.claimSecs, h.deadline);
    }

    /// @dev The layout as documented, field by field from the top.
    function _pack(Rental memory r) private pure returns (Slot) {
        uint8 flags = (r.renterDisputes ? 1 : 0) | (r.providerDisputes ? 2 : 0);
        uint40 second = r.status == Status.Contested ? uint40(r.claimSecs) : r.since;
        bytes memory packed =
            abi.encodePacked(r.deposit, second, r.settledSecs, r.contestedSecs, r.deadline, flags, uint8(r.status));
        // forge-lint: disable-next-line(unsafe-typecast) -- its 32 bytes
        return Slot.wrap(uint256(bytes32(packed)));
    }

    function _assertIs(Slot slot, Rental memory r) private pure {
        assertEq(Slot.unwrap(slot), Slot.unwrap(_pack(r)), "bits");
        assertEq(abi.encode(slot.unpack()), abi.encode(r), "fields");
        assertEq(uint256(slot.status()), uint256(r.status), "status");
        assertEq(slot.deposit(), r.deposit, "deposit");
        assertEq(slot.settledSecs(), r.settledSecs, "settled");
        assertTrue(slot.isIn(r.status), "is in its status");
        if (r.status != Status.Contested) assertEq(slot.since(), r.since, "since");
    }
}
