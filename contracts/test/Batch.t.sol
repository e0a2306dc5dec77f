// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Outcome, PrepaidItem, StartItem, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";

contract BatchTest is Fixture {
    function test_CloseBatch_SignatureCountMismatch() public {
        vm.startPrank(operator);
        vm.expectRevert(IEscrow.SignatureCountMismatch.selector);
        escrow.closeBatch(new CloseItem[](2), new EndSignatures[](1));
        vm.expectRevert(IEscrow.SignatureCountMismatch.selector);
        escrow.closeBatch(new CloseItem[](2), new EndSignatures[](3));
        vm.expectRevert(IEscrow.SignatureCountMismatch.selector);
        escrow.closeBatch(new CloseItem[](0), new EndSignatures[](1));
        vm.stopPrank();
    }

    function test_Batch_StaleSkipped() public {
        StartItem[] memory items = new StartItem[](4);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = StartItem(_terms(address(usdc), bytes32(i)), T0);
        }
        _lock(items[0].terms, DEPOSIT);
        bytes32 last = _lock(items[3].terms, DEPOSIT);
        bytes32 tooLate = _lock(items[1].terms, DEPOSIT);
        items[1].startedAt = T0 + 1;
        bytes32 unknown = escrow.hashTerms(items[2].terms);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(tooLate, IEscrow.StartOutOfWindow.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(unknown, IEscrow.NotLocked.selector);
        vm.prank(operator);
        escrow.startBatch(items);
        _assertStatus(last, Status.Active);
        _assertStatus(tooLate, Status.Locked);
    }

    function test_Batch_DuplicatePaidOnce() public {
        CloseItem[] memory items = new CloseItem[](5);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = CloseItem(_terms(address(usdc), bytes32(i)), T0 + 1000, 0);
        }
        bytes32 first = _activate(items[0].terms, DEPOSIT);
        items[1] = items[0];
        bytes32 locked = _lock(items[2].terms, DEPOSIT);
        bytes32 early = _activate(items[3].terms, DEPOSIT);
        items[3].stoppedAt = T0 + 399;
        _activate(items[4].terms, DEPOSIT);
        skip(1000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(first, IEscrow.NotActive.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(locked, IEscrow.NotActive.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(early, IEscrow.StopOutOfWindow.selector);
        vm.prank(operator);
        escrow.closeBatch(items, new EndSignatures[](0));
        _assertBalances(1_800_000, 200_000, 2_000_000 + 2 * DEPOSIT);
    }

    function test_ReleaseBatch_StaleSkipped_DuplicatePaidOnce() public {
        Terms[] memory items = new Terms[](3);
        items[0] = _terms();
        items[1] = items[0];
        items[2] = _terms(address(usdc), "unknown");
        bytes32 id = _activate(items[0], DEPOSIT);
        bytes32 unknown = escrow.hashTerms(items[2]);
        skip(1000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(id, IEscrow.NothingToRelease.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(unknown, IEscrow.NotActive.selector);
        vm.prank(stranger);
        escrow.releaseBatch(items);
        _assertBalances(900_000, 100_000, DEPOSIT);
    }

    function test_FinalizeBatch_StaleSkipped_DuplicatePaidOnce() public {
        Terms[] memory items = new Terms[](4);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = _terms(address(usdc), bytes32(i));
            if (i != 3) _activate(items[i], DEPOSIT);
        }
        skip(1000);
        _close(items[0], T0 + 1000, 100);
        items[1] = items[0];
        skip(1);
        _close(items[2], T0 + 1001, 100);
        skip(24 hours);
        bytes32 first = escrow.hashTerms(items[0]);
        bytes32 early = escrow.hashTerms(items[2]);
        bytes32 unknown = escrow.hashTerms(items[3]);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(first, Outcome.Undisputed, 900, 0, 0, 100_000, true);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(first, IEscrow.NotContested.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(early, IEscrow.FinalizeTooEarly.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(unknown, IEscrow.NotContested.selector);
        vm.prank(stranger);
        escrow.finalizeBatch(items);
        _assertStatus(early, Status.Contested);
        assertEq(escrow.balanceOf(provider, address(usdc)), 900 * 900 + 901 * 900, "provider");
        assertEq(escrow.balanceOf(treasury, address(usdc)), 90_000 + 90_100, "treasury");
        assertEq(usdc.balanceOf(address(escrow)), DEPOSIT + 900_000 + 1_001_000, "held");
    }

    /// @dev Fees are summed per token, whatever the order.
    function test_CloseBatch_MixedTokens() public {
        CloseItem[] memory items = new CloseItem[](6);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = CloseItem(_terms(i % 2 == 0 ? address(usdc) : NATIVE, bytes32(i)), T0 + 1000, 0);
            _activate(items[i].terms, DEPOSIT);
        }
        skip(1000);
        vm.prank(operator);
        escrow.closeBatch(items, new EndSignatures[](0));
        _assertBalances(2_700_000, 300_000, 3_000_000);
        assertEq(escrow.balanceOf(provider, NATIVE), 2_700_000, "provider");
        assertEq(escrow.balanceOf(treasury, NATIVE), 300_000, "treasury");
        assertEq(address(escrow).balance, 3_000_000, "held");
    }

    /// @dev What the worker, the documents and the reckoning of the transaction cap go by.
    function test_Batch_Limits() public view {
        assertEq(escrow.MAX_BATCH(), 150, "items");
        assertEq(escrow.MAX_SIGNED_BATCH(), 40, "items with signatures");
    }

    function test_Batch_TooLarge_PlusMinusOne() public {
        uint256 most = escrow.MAX_BATCH();
        uint256 signed = escrow.MAX_SIGNED_BATCH();
        EndSignatures[] memory none;
        vm.startPrank(operator);
        for (uint256 over = 0; over < 2; ++over) {
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.startBatch(new StartItem[](most + over));
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.closeBatch(new CloseItem[](most + over), none);
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.releaseBatch(new Terms[](most + over));
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.finalizeBatch(new Terms[](most + over));
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.closeBatch(new CloseItem[](signed + over), new EndSignatures[](signed + over));
            if (over == 1) vm.expectRevert(IEscrow.BatchTooLarge.selector);
            escrow.lockBatch(new PrepaidItem[](signed + over));
        }
        vm.stopPrank();
    }

    /// @dev A push leaves 1/64 of the gas behind. However little the batch is given, it reverts whole or pays everybody:
    /// who could not be pushed to is credited.
    function testFuzz_Batch_63_64(uint256 gas) public {
        CloseItem[] memory items = new CloseItem[](3);
        Wallet[] memory wallets = new Wallet[](3);
        for (uint256 i = 0; i < items.length; ++i) {
            wallets[i] = new Wallet();
            if (i != 1) wallets[i].setManner(Wallet.Manner.BurnsGas);
            vm.deal(address(wallets[i]), DEPOSIT);
            Terms memory t = _terms(NATIVE, bytes32(i));
            t.renter = address(wallets[i]);
            wallets[i].lock(escrow, t, DEPOSIT);
            _start(t, T0);
            items[i] = CloseItem(t, T0 + 1000, 0);
        }
        skip(1000);
        vm.prank(operator);
        (bool success,) = address(escrow).call{gas: bound(gas, 30_000, 400_000)}(
            abi.encodeCall(escrow.closeBatch, (items, new EndSignatures[](0)))
        );
        uint256 owed = escrow.balanceOf(provider, NATIVE) + escrow.balanceOf(treasury, NATIVE);
        for (uint256 i = 0; i < wallets.length; ++i) {
            uint256 credited = escrow.balanceOf(address(wallets[i]), NATIVE);
            assertEq(credited + address(wallets[i]).balance, success ? DEPOSIT - 1_000_000 : 0, "renter");
            owed += credited;
        }
        assertEq(address(escrow).balance, success ? owed : 3 * uint256(DEPOSIT), "held");
    }
}
