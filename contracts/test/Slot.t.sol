// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Rental, Status} from "../src/IEscrow.sol";
import {Slot, SlotFields} from "../src/Slot.sol";
import {Test} from "forge-std/Test.sol";

contract SlotTest is Test {
    /// @dev A rental whose status is any number, for the fuzzer knows no enums.
    struct Raw {
        uint8 status;
        uint96 deposit;
        uint40 since;
        uint32 settledSecs;
        uint32 contestedSecs;
        uint40 deadline;
    }

    function testFuzz_Locked_IsLossless(uint96 deposit, uint40 lockedAt) public pure {
        _assertIs(SlotFields.locked(deposit, lockedAt), Rental(Status.Locked, deposit, lockedAt, 0, 0, 0));
    }

    function testFuzz_Started_KeepsTheDeposit(uint96 deposit, uint40 lockedAt, uint40 startedAt) public pure {
        Slot slot = SlotFields.locked(deposit, lockedAt).started(startedAt);
        _assertIs(slot, Rental(Status.Active, deposit, startedAt, 0, 0, 0));
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

    function test_Tombstone() public pure {
        _assertIs(SlotFields.TOMBSTONE, Rental(Status.Closed, 0, 0, 0, 0, 0));
        assertFalse(SlotFields.TOMBSTONE.isNone());
        assertTrue(Slot.wrap(0).isNone());
    }

    function _rental(Raw memory raw) private pure returns (Rental memory) {
        Status status = Status(raw.status % (uint8(type(Status).max) + 1));
        return Rental(status, raw.deposit, raw.since, raw.settledSecs, raw.contestedSecs, raw.deadline);
    }

    /// @dev The layout as documented, field by field from the top.
    function _pack(Rental memory r) private pure returns (Slot) {
        return Slot.wrap(
            uint256(
                bytes32(
                    abi.encodePacked(
                        r.deposit, r.since, r.settledSecs, r.contestedSecs, r.deadline, uint16(uint8(r.status))
                    )
                )
            )
        );
    }

    function _assertIs(Slot slot, Rental memory r) private pure {
        assertEq(Slot.unwrap(slot), Slot.unwrap(_pack(r)), "bits");
        assertEq(abi.encode(slot.unpack()), abi.encode(r), "fields");
        assertEq(uint256(slot.status()), uint256(r.status), "status");
        assertEq(slot.deposit(), r.deposit, "deposit");
        assertEq(slot.since(), r.since, "since");
        assertEq(slot.settledSecs(), r.settledSecs, "settled");
    }
}
