// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../src/Escrow.sol";
import {CloseItem, IEscrow, StartItem, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

contract GovernedTest is Fixture {
    function test_Constructor() public {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        new Escrow(address(0), operator, treasury, guardian);
        vm.expectRevert(IEscrow.ZeroAddress.selector);
        new Escrow(owner, address(0), treasury, guardian);
        vm.expectRevert(IEscrow.ZeroAddress.selector);
        new Escrow(owner, operator, address(0), guardian);
        Escrow made = new Escrow(owner, operator, treasury, address(0));
        assertEq(made.owner(), owner);
        assertTrue(made.isOperator(operator));
        assertEq(made.treasury(), treasury);
        assertEq(made.guardian(), address(0));
    }

    function test_SetOperator() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.OperatorSet(stranger, true);
        vm.prank(owner);
        escrow.setOperator(stranger, true);
        assertTrue(escrow.isOperator(stranger));
        vm.prank(owner);
        vm.expectRevert(IEscrow.ZeroAddress.selector);
        escrow.setOperator(address(0), true);
    }

    function test_Guardian_DropsOperator_ButAddsNone() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        vm.prank(guardian);
        escrow.setOperator(operator, false);
        vm.prank(operator);
        vm.expectRevert(IEscrow.NotOperator.selector);
        escrow.close(t, T0, 0);
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, guardian));
        escrow.setOperator(operator, true);
    }

    function test_PauseToken() public {
        address[2] memory who = [owner, guardian];
        for (uint256 i = 0; i < who.length; ++i) {
            vm.expectEmit(address(escrow));
            emit IEscrow.TokenPaused(NATIVE, true);
            vm.prank(who[i]);
            escrow.pauseToken(NATIVE);
            vm.expectEmit(address(escrow));
            emit IEscrow.TokenPaused(NATIVE, false);
            vm.prank(owner);
            escrow.unpauseToken(NATIVE);
        }
        vm.prank(operator);
        vm.expectRevert(IEscrow.NotGuardianOrOwner.selector);
        escrow.pauseToken(NATIVE);
    }

    function test_ListToken() public {
        vm.startPrank(owner);
        vm.expectRevert(IEscrow.NotAContract.selector);
        escrow.listToken(stranger, true);
        // To take one off the list needs no code.
        escrow.listToken(stranger, false);
        vm.expectEmit(address(escrow));
        emit IEscrow.TokenListed(address(usdc), false);
        escrow.listToken(address(usdc), false);
        vm.stopPrank();
        (bool listed, bool paused) = escrow.tokenState(address(usdc));
        assertFalse(listed || paused);
    }

    /// @dev Listing anew does not end a pause.
    function test_ListToken_KeepsThePause() public {
        vm.prank(guardian);
        escrow.pauseToken(NATIVE);
        vm.startPrank(owner);
        escrow.listToken(NATIVE, false);
        escrow.listToken(NATIVE, true);
        vm.stopPrank();
        (bool listed, bool paused) = escrow.tokenState(NATIVE);
        assertTrue(listed && paused);
    }

    function test_SetTreasury_FromNowOn() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        vm.prank(owner);
        escrow.setTreasury(stranger);
        skip(1000);
        escrow.release(t);
        assertEq(escrow.balanceOf(treasury, address(usdc)), 100_000, "what was earned stays");
        assertEq(escrow.balanceOf(stranger, address(usdc)), 100_000, "the rest is the new treasury's");
        vm.prank(owner);
        vm.expectRevert(IEscrow.ZeroAddress.selector);
        escrow.setTreasury(address(0));
        vm.prank(owner);
        vm.expectRevert(IEscrow.PayeeIsEscrow.selector);
        escrow.setTreasury(address(escrow));
    }

    function test_Owner_TwoSteps_AndStays() public {
        vm.prank(owner);
        escrow.transferOwnership(stranger);
        assertEq(escrow.owner(), owner);
        vm.prank(owner);
        vm.expectRevert(IEscrow.OwnerRequired.selector);
        escrow.renounceOwnership();
        vm.prank(stranger);
        escrow.acceptOwnership();
        assertEq(escrow.owner(), stranger);
    }

    function test_OnlyOwner() public {
        address[4] memory others = [operator, guardian, treasury, stranger];
        bytes[] memory calls = new bytes[](6);
        calls[0] = abi.encodeCall(escrow.setOperator, (stranger, true));
        calls[1] = abi.encodeCall(escrow.setTreasury, (stranger));
        calls[2] = abi.encodeCall(escrow.setGuardian, (stranger));
        calls[3] = abi.encodeCall(escrow.listToken, (address(usdc), false));
        calls[4] = abi.encodeCall(escrow.unpauseToken, (address(usdc)));
        calls[5] = abi.encodeCall(escrow.transferOwnership, (stranger));
        for (uint256 i = 0; i < others.length; ++i) {
            for (uint256 j = 0; j < calls.length; ++j) {
                vm.prank(others[i]);
                (bool success, bytes memory reason) = address(escrow).call(calls[j]);
                assertFalse(success, "only the owner");
                assertEq(reason, abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, others[i]));
            }
        }
    }

    /// @dev All functions that change anything, called by all roles on a running and on a waiting rental: nobody gains
    /// who is not named in the terms, and no account's balance falls.
    function test_NoOwnerPathToFunds() public {
        Terms memory running = _terms();
        Terms memory waiting = _terms(address(usdc), "waiting");
        _activate(running, DEPOSIT);
        _lock(waiting, DEPOSIT);
        skip(1000);
        escrow.release(running);
        bytes[] memory calls = _everyCall(running, waiting);
        address[4] memory roles = [owner, guardian, operator, stranger];
        for (uint256 i = 0; i < roles.length; ++i) {
            for (uint256 j = 0; j < calls.length; ++j) {
                uint256 before = vm.snapshotState();
                uint256 ofRenter = usdc.balanceOf(renter);
                vm.prank(roles[i]);
                (bool success,) = address(escrow).call(calls[j]);
                success;
                assertEq(usdc.balanceOf(roles[i]) + escrow.balanceOf(roles[i], address(usdc)), 0, "role gains nothing");
                assertGe(usdc.balanceOf(renter), ofRenter, "renter");
                assertGe(escrow.balanceOf(provider, address(usdc)), 900_000, "provider");
                assertGe(escrow.balanceOf(treasury, address(usdc)), 100_000, "treasury");
                assertLe(escrow.balanceOf(provider, address(usdc)), 900_000, "not above what was due");
                vm.revertToState(before);
            }
        }
    }

    /// @dev I9. A paused and delisted token leaves as before.
    function test_Pause_ExitsUnchanged() public {
        Terms[] memory t = new Terms[](4);
        for (uint256 i = 0; i < t.length; ++i) {
            t[i] = _terms(address(usdc), bytes32(i));
            _lock(t[i], DEPOSIT);
        }
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        vm.prank(owner);
        escrow.listToken(address(usdc), false);
        _start(t[0], T0);
        _start(t[1], T0);
        vm.prank(provider);
        escrow.cancel(t[2]);
        skip(1000);
        escrow.release(t[0]);
        _stop(t[0], renter);
        _close(t[1], T0 + 1000, 0);
        skip(1 days);
        escrow.reclaim(t[3]);
        _assertBalances(1_800_000, 200_000, 2_000_000);
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000, "renter");
        vm.prank(provider);
        escrow.withdraw(address(usdc), provider, 0);
        assertEq(usdc.balanceOf(provider), 1_800_000, "withdrawn");
    }

    function _everyCall(Terms memory running, Terms memory waiting) private view returns (bytes[] memory calls) {
        StartItem[] memory starts = new StartItem[](1);
        starts[0] = StartItem(waiting, T0 + 1000);
        CloseItem[] memory ends = new CloseItem[](1);
        ends[0] = CloseItem(running, T0 + 1000, 0);
        Terms[] memory releases = new Terms[](1);
        releases[0] = running;
        calls = new bytes[](24);
        calls[0] = abi.encodeCall(escrow.lock, (waiting, 1));
        calls[1] = abi.encodeCall(escrow.lockWithPermit, (waiting, 1, T0, 27, 0, 0));
        calls[2] = abi.encodeCall(escrow.topUp, (running, 1));
        calls[3] = abi.encodeCall(escrow.start, (waiting, T0 + 1000));
        calls[4] = abi.encodeCall(escrow.startBatch, (starts));
        calls[5] = abi.encodeCall(escrow.stop, (running));
        calls[6] = abi.encodeCall(escrow.close, (running, T0 + 1000, 0));
        calls[7] = abi.encodeCall(escrow.closeBatch, (ends));
        calls[8] = abi.encodeCall(escrow.cancel, (waiting));
        calls[9] = abi.encodeCall(escrow.cancel, (running));
        calls[10] = abi.encodeCall(escrow.reclaim, (waiting));
        calls[11] = abi.encodeCall(escrow.release, (running));
        calls[12] = abi.encodeCall(escrow.releaseBatch, (releases));
        calls[13] = abi.encodeCall(escrow.withdraw, (address(usdc), stranger, 0));
        calls[14] = abi.encodeCall(escrow.withdraw, (address(usdc), stranger, 1));
        calls[15] = abi.encodeCall(escrow.setOperator, (stranger, true));
        calls[16] = abi.encodeCall(escrow.setTreasury, (stranger));
        calls[17] = abi.encodeCall(escrow.setGuardian, (stranger));
        calls[18] = abi.encodeCall(escrow.listToken, (address(usdc), false));
        calls[19] = abi.encodeCall(escrow.pauseToken, (address(usdc)));
        calls[20] = abi.encodeCall(escrow.unpauseToken, (address(usdc)));
        calls[21] = abi.encodeCall(escrow.transferOwnership, (stranger));
        calls[22] = abi.encodeCall(escrow.acceptOwnership, ());
        calls[23] = abi.encodeCall(escrow.renounceOwnership, ());
    }
}
