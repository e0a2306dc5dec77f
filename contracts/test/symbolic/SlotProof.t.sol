// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Rental, Status} from "../../src/IEscrow.sol";
import {Slot, SlotFields} from "../../src/Slot.sol";
import {Symbolic} from "./Symbolic.sol";

// forge-lint: disable-start(mixed-case-function) -- halmos finds proofs by their names, check_..

/// @notice I13: no field of the packed rental touches another, for all values of all fields.
contract SlotProof is Symbolic {
    /// @dev The word as documented: `since` is the claim once contested.
    struct Raw {
        uint96 deposit;
        uint40 since;
        uint32 settled;
        uint32 contested;
        uint40 deadline;
        uint8 flags;
        uint8 status;
    }

    function check_Fields_AreWhereDocumented(Raw memory raw) public pure {
        _assertIs(_pack(raw), raw);
    }

    function check_Unpack_IsLossless(Raw memory raw) public pure {
        VM.assume(raw.status <= uint8(type(Status).max));
        Rental memory r = _pack(raw).unpack();
        bool contested = r.status == Status.Contested;
        assert(uint8(r.status) == raw.status && r.deposit == raw.deposit && r.settledSecs == raw.settled);
        assert(r.since == (contested ? 0 : raw.since));
        assert(r.contestedSecs == (contested ? raw.contested : 0));
        assert(r.claimSecs == (contested ? uint32(raw.since) : 0));
        assert(r.deadline == (contested ? raw.deadline : 0));
        assert(r.renterDisputes == (contested && raw.flags & 1 != 0));
        assert(r.providerDisputes == (contested && raw.flags & 2 != 0));
    }

    function check_Locked(uint96 amount, uint40 lockedAt) public pure {
        _assertIs(SlotFields.locked(amount, lockedAt), Raw(amount, lockedAt, 0, 0, 0, 0, uint8(Status.Locked)));
    }

    function check_Started_KeepsTheDeposit(Raw memory raw, uint40 startedAt) public pure {
        _assertIs(_pack(raw).started(startedAt), Raw(raw.deposit, startedAt, 0, 0, 0, 0, uint8(Status.Active)));
    }

    function check_Contested_KeepsTheDeposit(
        Raw memory raw,
        uint32 settled,
        uint32 claim,
        uint32 credit,
        uint40 until
    )
        public
        pure
    {
        // All of them are parts of the billed seconds.
        VM.assume(uint256(settled) + claim + credit <= type(uint32).max);
        Slot slot = _pack(raw).contested(settled, claim, credit, until);
        _assertIs(slot, Raw(raw.deposit, claim, settled, claim + credit, until, 0, uint8(Status.Contested)));
        assert(slot.claimSecs() == claim && slot.creditSecs() == credit && !slot.isDisputed());
    }

    /// @dev By either side, or by both one after the other.
    function check_Disputed_SetsOneFlag(Raw memory raw, bool byRenter, uint40 until) public pure {
        uint256 side = byRenter ? SlotFields.RENTER_DISPUTES : SlotFields.PROVIDER_DISPUTES;
        Slot slot = _pack(raw).disputed(side, until);
        raw.flags |= byRenter ? 1 : 2;
        raw.deadline = until;
        _assertIs(slot, raw);
        assert(slot.isDisputed() && slot.isDisputedBy(side));
    }

    function check_WithDeposit_ChangesNothingElse(Raw memory raw, uint96 deposit) public pure {
        Slot slot = _pack(raw).withDeposit(deposit);
        raw.deposit = deposit;
        _assertIs(slot, raw);
    }

    function check_WithSettled_ChangesNothingElse(Raw memory raw, uint32 secs) public pure {
        Slot slot = _pack(raw).withSettled(secs);
        raw.settled = secs;
        _assertIs(slot, raw);
    }

    function _pack(Raw memory raw) private pure returns (Slot) {
        return Slot.wrap(
            uint256(
                bytes32(
                    abi.encodePacked(
                        raw.deposit, raw.since, raw.settled, raw.contested, raw.deadline, raw.flags, raw.status
                    )
                )
            )
        );
    }

    function _assertIs(Slot slot, Raw memory raw) private pure {
        assert(Slot.unwrap(slot) == Slot.unwrap(_pack(raw)));
        assert(slot.deposit() == raw.deposit && slot.since() == raw.since && slot.settledSecs() == raw.settled);
        assert(slot.contestedSecs() == raw.contested && slot.deadline() == raw.deadline);
        assert(slot.claimSecs() == uint32(raw.since));
        assert(slot.isDisputedBy(SlotFields.RENTER_DISPUTES) == (raw.flags & 1 != 0));
        assert(slot.isDisputedBy(SlotFields.PROVIDER_DISPUTES) == (raw.flags & 2 != 0));
        if (raw.status <= uint8(type(Status).max)) assert(uint8(slot.status()) == raw.status);
    }
}
// forge-lint: disable-end(mixed-case-function)
