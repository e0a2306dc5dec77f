// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Config} from "../src/Governed.sol";
import {Change, EndSignatures, IEscrow, Outcome, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @notice Who holds which role, and what becomes of rentals meanwhile.
contract GovernedTest is Fixture {
    function test_Constructor() public {
        Config memory config = _config();
        for (uint256 i = 0; i < 5; ++i) {
            _expectMade(_config());
            config = _config();
            bytes4 error_ = IEscrow.ZeroAddress.selector;
            if (i == 0) config.treasury = address(0);
            if (i == 1) config.operators[0] = address(0);
            if (i == 2) (config.tokens[0], error_) = (stranger, IEscrow.NotAContract.selector);
            if (i == 3) (config.treasury, error_) = (_nextAddress(), IEscrow.PayeeIsEscrow.selector);
            if (i == 4) {
                config.owner = address(0);
                vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
            } else {
                vm.expectRevert(error_);
            }
            this.make(config);
        }
        // Nobody need be guardian or arbiter, and there may be neither operators nor tokens.
        config = Config(owner, address(0), treasury, address(0), new address[](0), new address[](0));
        _expectMade(config);
    }

    function test_Constructor_TellsAllInEvents() public {
        vm.expectEmit();
        emit IEscrow.TreasurySet(treasury);
        vm.expectEmit();
        emit IEscrow.ArbiterSet(arbiter);
        vm.expectEmit();
        emit IEscrow.GuardianSet(guardian);
        vm.expectEmit();
        emit IEscrow.OperatorSet(operator, true);
        vm.expectEmit();
        emit IEscrow.TokenListed(address(usdc));
        vm.expectEmit();
        emit IEscrow.TokenListed(NATIVE);
        _newEscrow(_config());
    }

    function test_RemoveOperator_AtOnce() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        address[2] memory who = [owner, guardian];
        for (uint256 i = 0; i < who.length; ++i) {
            uint256 before = vm.snapshotState();
            vm.expectEmit(address(escrow));
            emit IEscrow.OperatorSet(operator, false);
            vm.prank(who[i]);
            escrow.removeOperator(operator);
            assertFalse(escrow.isOperator(operator), "removed");
            bytes memory close = abi.encodeCall(escrow.close, (t, T0, 0, EndSignatures("", "")));
            _refused(operator, close, IEscrow.NotOperator.selector);
            vm.revertToState(before);
        }
    }

    function test_PauseToken() public {
        address[2] memory who = [owner, guardian];
        for (uint256 i = 0; i < who.length; ++i) {
            vm.expectEmit(address(escrow));
            emit IEscrow.TokenPaused(NATIVE, true);
            vm.prank(who[i]);
            escrow.pauseToken(NATIVE);
            (bool listed, bool paused) = escrow.tokenState(NATIVE);
            assertTrue(listed && paused, "paused");
            vm.expectEmit(address(escrow));
            emit IEscrow.TokenPaused(NATIVE, false);
            vm.prank(owner);
            escrow.unpauseToken(NATIVE);
        }
    }

    function test_OnlyGuardianOrOwner() public {
        address[6] memory others = [operator, treasury, arbiter, renter, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            _refused(others[i], abi.encodeCall(escrow.pauseToken, (NATIVE)), IEscrow.NotGuardianOrOwner.selector);
            _refused(others[i], abi.encodeCall(escrow.removeOperator, (operator)), IEscrow.NotGuardianOrOwner.selector);
            _refused(others[i], abi.encodeCall(escrow.removeArbiter, ()), IEscrow.NotGuardianOrOwner.selector);
        }
    }

    /// @dev Without a guardian nobody can act as address 0.
    function test_NoGuardian_IsNobody() public {
        _enact(Change.SetGuardian, address(0));
        _refused(guardian, abi.encodeCall(escrow.pauseToken, (NATIVE)), IEscrow.NotGuardianOrOwner.selector);
        vm.prank(owner);
        escrow.pauseToken(NATIVE);
    }

    function test_OnlyOwner() public {
        address[7] memory others = [operator, guardian, treasury, arbiter, renter, provider, stranger];
        bytes[] memory calls = new bytes[](6);
        calls[0] = abi.encodeCall(escrow.scheduleChange, (Change.SetTreasury, stranger));
        calls[1] = abi.encodeCall(escrow.executeChange, (Change.SetTreasury, stranger));
        calls[2] = abi.encodeCall(escrow.cancelChange, (Change.SetTreasury, stranger));
        calls[3] = abi.encodeCall(escrow.unpauseToken, (address(usdc)));
        calls[4] = abi.encodeCall(escrow.transferOwnership, (stranger));
        calls[5] = abi.encodeCall(escrow.renounceOwnership, ());
        vm.prank(owner);
        escrow.scheduleChange(Change.SetTreasury, stranger);
        skip(48 hours);
        for (uint256 i = 0; i < others.length; ++i) {
            for (uint256 j = 0; j < calls.length; ++j) {
                vm.prank(others[i]);
                (bool success, bytes memory reason) = address(escrow).call(calls[j]);
                assertFalse(success, "only the owner");
                assertEq(reason, abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, others[i]));
            }
        }
    }

    function test_Owner_TwoSteps_AndStays() public {
        vm.prank(owner);
        escrow.transferOwnership(stranger);
        assertEq(escrow.owner(), owner, "not yet");
        vm.prank(owner);
        vm.expectRevert(IEscrow.OwnerRequired.selector);
        escrow.renounceOwnership();
        vm.prank(stranger);
        escrow.acceptOwnership();
        assertEq(escrow.owner(), stranger, "accepted");
    }

    function test_SetTreasury_FromNowOn() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        _enact(Change.SetTreasury, stranger);
        skip(1000);
        escrow.release(t);
        assertEq(escrow.balanceOf(treasury, address(usdc)), 100_000, "what was earned stays");
        assertEq(escrow.balanceOf(stranger, address(usdc)), 100_000, "the rest is the new treasury's");
    }

    /// @dev The fee is of the terms: whatever the owner does, a rental that runs is billed as agreed on.
    function test_FeeChange_DoesNotTouchLive() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(1000);
        // The same renter's later rental is offered at another fee.
        Terms memory dearer = t;
        dearer.feeBps = 1500;
        _refused(renter, abi.encodeCall(escrow.stop, (dearer)), IEscrow.NotActive.selector);
        t = _terms();
        t.startBy = T0 + START_IN;
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        _enact(Change.SetGuardian, stranger);
        _enact(Change.SetArbiter, stranger);
        _enact(Change.AddOperator, stranger);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 1000, 900_000, 100_000, 9_000_000, true);
        vm.prank(stranger);
        escrow.close(t, T0 + 1000, 0, EndSignatures("", ""));
    }

    /// @dev I9. Whatever a pause forbids, each way out does what it did before it.
    function test_Pause_ExitsUnchanged() public {
        uint256 before = vm.snapshotState();
        (bytes32 open, uint256 done) = _waysOut(false);
        assertEq(done, 14, "each way out is open");
        vm.revertToState(before);
        (bytes32 paused,) = _waysOut(true);
        assertEq(paused, open, "as if it were open");
        _refused(renter, abi.encodeCall(escrow.lock, (_terms(), DEPOSIT)), IEscrow.TokenIsPaused.selector);
    }

    /// @dev Rentals in each state, then by every way out of them, with the token paused before that or not.
    /// @return trace All that came of it.
    /// @return done Calls that succeeded.
    function _waysOut(bool isPaused) private returns (bytes32 trace, uint256 done) {
        Terms[] memory t = new Terms[](11);
        for (uint256 i = 0; i < t.length; ++i) {
            t[i] = _terms(address(usdc), bytes32(i));
            t[i].holdback = 600;
            _lock(t[i], DEPOSIT);
            if (i > 1) _start(t[i], T0);
        }
        skip(1500);
        for (uint256 i = 7; i < t.length; ++i) {
            _close(t[i], T0 + 1500, 100);
        }
        if (isPaused) {
            vm.prank(guardian);
            escrow.pauseToken(address(usdc));
        }
        EndSignatures memory none;
        bytes[] memory calls = new bytes[](14);
        address[14] memory by = [
            provider,
            stranger,
            stranger,
            renter,
            provider,
            operator,
            renter,
            provider,
            renter,
            renter,
            provider,
            arbiter,
            stranger,
            provider
        ];
        calls[0] = abi.encodeCall(escrow.cancel, (t[0]));
        calls[1] = abi.encodeCall(escrow.reclaim, (t[1]));
        calls[2] = abi.encodeCall(escrow.release, (t[2]));
        calls[3] = abi.encodeCall(escrow.stop, (t[3]));
        calls[4] = abi.encodeCall(escrow.stop, (t[4]));
        calls[5] = abi.encodeCall(escrow.close, (t[5], T0 + 1510, 7, none));
        calls[6] = abi.encodeCall(escrow.contest, (t[6], 50));
        calls[7] = abi.encodeCall(escrow.concede, (t[7]));
        calls[8] = abi.encodeCall(escrow.concede, (t[8]));
        calls[9] = abi.encodeCall(escrow.dispute, (t[9]));
        calls[10] = abi.encodeCall(escrow.dispute, (t[9]));
        calls[11] = abi.encodeCall(escrow.resolve, (t[9], 33));
        calls[12] = abi.encodeCall(escrow.finalize, (t[10]));
        calls[13] = abi.encodeCall(escrow.withdraw, (address(usdc), provider, 0));
        skip(10);
        for (uint256 i = 0; i < calls.length; ++i) {
            if (i == 1) vm.warp(T0 + 2000);
            if (i == 12) skip(24 hours);
            vm.prank(by[i]);
            (bool success, bytes memory reason) = address(escrow).call(calls[i]);
            if (success) ++done;
            uint256 ofTreasury = escrow.balanceOf(treasury, address(usdc));
            trace = keccak256(
                abi.encode(trace, success, reason, usdc.balanceOf(renter), usdc.balanceOf(provider), ofTreasury)
            );
        }
    }

    /// @dev Only to be called from outside, so that a revert can be expected of it.
    function make(Config calldata config) external {
        require(msg.sender == address(this), "test only");
        _newEscrow(config);
    }

    function _expectMade(Config memory config) private {
        IEscrow made = _newEscrow(config);
        assertEq(made.treasury(), config.treasury, "treasury");
        assertEq(made.guardian(), config.guardian, "guardian");
        assertEq(made.arbiter(), config.arbiter, "arbiter");
        for (uint256 i = 0; i < config.operators.length; ++i) {
            assertTrue(made.isOperator(config.operators[i]), "operator");
        }
        for (uint256 i = 0; i < config.tokens.length; ++i) {
            (bool listed, bool paused) = made.tokenState(config.tokens[i]);
            assertTrue(listed && !paused, "token");
        }
    }

    function _nextAddress() private view returns (address) {
        return vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
    }
}
