// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Disputed} from "./Disputed.sol";

/// @notice Disputing what goes to the other side, and giving it up.
contract DisputeTest is Disputed {
    function test_Held() public view {
        _assertBalances(1_170_000, 130_000, 2_000_000);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1300, 700, 600, WINDOW_END, false, false)),
            "stored"
        );
    }

    function test_Dispute_ByEitherSide() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.Disputed(id, renter, DECIDED_BY);
        _dispute(renter);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1300, 700, 600, DECIDED_BY, true, false)),
            "by the renter"
        );
        // The second dispute does not lengthen the time.
        skip(1 hours);
        vm.expectEmit(address(escrow));
        emit IEscrow.Disputed(id, provider, DECIDED_BY);
        _dispute(provider);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1300, 700, 600, DECIDED_BY, true, true)),
            "by both"
        );
        _assertBalances(1_170_000, 130_000, 2_000_000);
    }

    function test_Dispute_Window_PlusMinusOne() public {
        address[2] memory who = [renter, provider];
        for (uint256 i = 0; i < who.length; ++i) {
            vm.warp(WINDOW_END + 1);
            _refused(who[i], abi.encodeCall(escrow.dispute, (terms)), IEscrow.DisputeWindowOver.selector);
            vm.warp(WINDOW_END);
            uint256 before = vm.snapshotState();
            _dispute(who[i]);
            // The other side's window is as long as it was.
            address other = who[1 - i];
            skip(1);
            _refused(other, abi.encodeCall(escrow.dispute, (terms)), IEscrow.DisputeWindowOver.selector);
            vm.warp(WINDOW_END);
            _dispute(other);
            vm.revertToState(before);
        }
    }

    function test_Dispute_NotRenterOrProvider() public {
        address[5] memory others = [owner, guardian, arbiter, operator, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            _refused(others[i], abi.encodeCall(escrow.dispute, (terms)), IEscrow.NotRenterOrProvider.selector);
            _refused(others[i], abi.encodeCall(escrow.concede, (terms)), IEscrow.NotRenterOrProvider.selector);
        }
    }

    function test_Dispute_Twice() public {
        _dispute(renter);
        _refused(renter, abi.encodeCall(escrow.dispute, (terms)), IEscrow.NothingToDispute.selector);
        _dispute(provider);
        _refused(provider, abi.encodeCall(escrow.dispute, (terms)), IEscrow.NothingToDispute.selector);
    }

    /// @dev Each side may dispute what goes to the other, not what it gets anyway.
    function test_Dispute_NothingOfTheOthers() public {
        _hold(600, 0);
        _refused(provider, abi.encodeCall(escrow.dispute, (terms)), IEscrow.NothingToDispute.selector);
        _dispute(renter);
        _hold(0, 100);
        _refused(renter, abi.encodeCall(escrow.dispute, (terms)), IEscrow.NothingToDispute.selector);
        _dispute(provider);
    }

    function test_NotContested() public {
        Terms memory t = _terms(address(usdc), "another");
        _refusedAll(t);
        _lock(t, DEPOSIT);
        _refusedAll(t);
        _start(t, _now());
        _refusedAll(t);
        _stop(t, renter);
        _refusedAll(t);
    }

    function test_Concede_ByTheRenter() public {
        _expectEnd(Outcome.Conceded, 0);
        vm.prank(renter);
        escrow.concede(terms);
        _assertBilled(2000);
    }

    function test_Concede_ByTheProvider() public {
        _expectEnd(Outcome.Conceded, 700);
        vm.prank(provider);
        escrow.concede(terms);
        _assertBilled(1300);
    }

    /// @dev At any time until it is closed: after the window, disputed, and past the arbiter's time.
    function test_Concede_AtAnyTime() public {
        uint40[3] memory moments = [WINDOW_END + 1, DECIDED_BY, DECIDED_BY + 1000];
        for (uint256 i = 0; i < moments.length; ++i) {
            uint256 before = vm.snapshotState();
            _dispute(renter);
            vm.warp(moments[i]);
            vm.prank(provider);
            escrow.concede(terms);
            _assertBilled(1300);
            vm.revertToState(before);
        }
    }

    function test_Finalize_Undisputed_PlusMinusOne() public {
        vm.warp(WINDOW_END);
        _refused(stranger, abi.encodeCall(escrow.finalize, (terms)), IEscrow.FinalizeTooEarly.selector);
        skip(1);
        _expectEnd(Outcome.Undisputed, 100);
        vm.prank(stranger);
        escrow.finalize(terms);
        _assertBilled(1900);
        _refused(stranger, abi.encodeCall(escrow.finalize, (terms)), IEscrow.NotContested.selector);
    }

    function test_Finalize_Disputed_PlusMinusOne() public {
        _dispute(provider);
        vm.warp(DECIDED_BY);
        _refused(stranger, abi.encodeCall(escrow.finalize, (terms)), IEscrow.FinalizeTooEarly.selector);
        skip(1);
        _expectEnd(Outcome.Defaulted, 0);
        escrow.finalize(terms);
        _assertBilled(2000);
    }

    /// @dev Held seconds cannot be released, topped up, stopped, closed or reclaimed; nor the id locked.
    function test_Held_IsNeitherActiveNorLocked() public {
        _refused(stranger, abi.encodeCall(escrow.release, (terms)), IEscrow.NotActive.selector);
        _refused(renter, abi.encodeCall(escrow.topUp, (terms, 1)), IEscrow.NotActive.selector);
        _refused(renter, abi.encodeCall(escrow.stop, (terms)), IEscrow.NotActive.selector);
        _refused(provider, abi.encodeCall(escrow.cancel, (terms)), IEscrow.NotLocked.selector);
        _refused(stranger, abi.encodeCall(escrow.reclaim, (terms)), IEscrow.NotLocked.selector);
        _refused(operator, abi.encodeCall(escrow.start, (terms, _now())), IEscrow.NotLocked.selector);
        _assertBalances(1_170_000, 130_000, 2_000_000);
    }

    function _refusedAll(Terms memory t) private {
        _refused(renter, abi.encodeCall(escrow.dispute, (t)), IEscrow.NotContested.selector);
        _refused(renter, abi.encodeCall(escrow.concede, (t)), IEscrow.NotContested.selector);
        _refused(arbiter, abi.encodeCall(escrow.resolve, (t, 0)), IEscrow.NotContested.selector);
        _refused(stranger, abi.encodeCall(escrow.finalize, (t)), IEscrow.NotContested.selector);
    }
}
