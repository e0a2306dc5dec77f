// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, IEscrow, StartItem, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";
import {Vm} from "forge-std/Vm.sol";

contract BatchTest is Fixture {
    uint256 private constant TX_GAS_CAP = 16_777_216;

    function test_StartBatch_StaleSkipped() public {
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

    function test_CloseBatch_StaleSkipped_DuplicatePaidOnce() public {
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
        escrow.closeBatch(items);
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

    /// @dev Fees are summed per token, whatever the order.
    function test_CloseBatch_MixedTokens() public {
        CloseItem[] memory items = new CloseItem[](6);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = CloseItem(_terms(i % 2 == 0 ? address(usdc) : NATIVE, bytes32(i)), T0 + 1000, 0);
            _activate(items[i].terms, DEPOSIT);
        }
        skip(1000);
        vm.prank(operator);
        escrow.closeBatch(items);
        _assertBalances(2_700_000, 300_000, 3_000_000);
        assertEq(escrow.balanceOf(provider, NATIVE), 2_700_000, "provider");
        assertEq(escrow.balanceOf(treasury, NATIVE), 300_000, "treasury");
        assertEq(address(escrow).balance, 3_000_000, "held");
    }

    function test_Batch_TooLarge_PlusMinusOne() public {
        vm.startPrank(operator);
        vm.expectRevert(IEscrow.BatchTooLarge.selector);
        escrow.startBatch(new StartItem[](151));
        vm.expectRevert(IEscrow.BatchTooLarge.selector);
        escrow.closeBatch(new CloseItem[](151));
        vm.expectRevert(IEscrow.BatchTooLarge.selector);
        escrow.releaseBatch(new Terms[](151));
        escrow.startBatch(new StartItem[](150));
        escrow.closeBatch(new CloseItem[](150));
        escrow.releaseBatch(new Terms[](150));
        vm.stopPrank();
    }

    /// @dev The largest batch, at its dearest for honest tokens: no account has a balance, every renter and every
    /// provider is another one, nothing is warm, and every slot becomes a tombstone.
    function test_Batch_SizeUnderTxCap() public {
        CloseItem[] memory items = new CloseItem[](escrow.MAX_BATCH());
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            t.renter = makeAddr(string.concat("renter", vm.toString(i)));
            t.provider = makeAddr(string.concat("provider", vm.toString(i)));
            _fund(t.renter, usdc, DEPOSIT);
            _activate(t, DEPOSIT);
            items[i] = CloseItem(t, T0 + 800, 0);
        }
        skip(800);
        bytes memory input = abi.encodeCall(escrow.closeBatch, (items));
        uint256 intrinsic = 21_000;
        for (uint256 i = 0; i < input.length; ++i) {
            intrinsic += input[i] == 0 ? 4 : 16;
        }
        vm.cool(address(escrow));
        vm.cool(address(usdc));
        // Polygon's dearer cold slots: a rental, a provider's balance and a renter's, each.
        uint256 dearer = items.length * 3 * 3360;
        vm.recordLogs();
        vm.prank(operator);
        (bool success,) = address(escrow).call{gas: TX_GAS_CAP - intrinsic - dearer}(input);
        assertTrue(success, "within the cap");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 closed;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IEscrow.Closed.selector) ++closed;
            assertNotEq(logs[i].topics[0], IEscrow.Credited.selector, "no push short of gas");
        }
        assertEq(closed, items.length, "each closed");
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
        (bool success,) =
            address(escrow).call{gas: bound(gas, 30_000, 400_000)}(abi.encodeCall(escrow.closeBatch, (items)));
        uint256 owed = escrow.balanceOf(provider, NATIVE) + escrow.balanceOf(treasury, NATIVE);
        for (uint256 i = 0; i < wallets.length; ++i) {
            uint256 credited = escrow.balanceOf(address(wallets[i]), NATIVE);
            assertEq(credited + address(wallets[i]).balance, success ? DEPOSIT - 1_000_000 : 0, "renter");
            owed += credited;
        }
        assertEq(address(escrow).balance, success ? owed : 3 * uint256(DEPOSIT), "held");
    }

    struct Random {
        uint256 seed;
    }

    /// @dev I10: what a batch leaves behind, events and storage, is what its single calls leave behind.
    function testFuzz_Batch_IsTheSequenceOfItsCalls(uint256 seed) public {
        Random memory random = Random(seed);
        CloseItem[] memory items = new CloseItem[](6);
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(_next(random, 2) == 0 ? address(usdc) : NATIVE, bytes32(_next(random, 4)));
            t.feeBps = uint16(_next(random, 1500));
            items[i] = CloseItem(t, T0 + 1 + uint40(_next(random, 2000)), uint32(_next(random, 100)));
            uint256 fate = _next(random, 4);
            vm.prank(renter);
            (bool isNew,) =
                address(escrow).call{value: t.token == NATIVE ? DEPOSIT : 0}(abi.encodeCall(escrow.lock, (t, DEPOSIT)));
            if (isNew && fate != 0) _start(t, T0);
        }
        skip(1500);
        uint256 before = vm.snapshotState();
        vm.recordLogs();
        vm.prank(operator);
        escrow.closeBatch(items);
        bytes32 batch = _trace(items);
        vm.revertToState(before);
        vm.recordLogs();
        for (uint256 i = 0; i < items.length; ++i) {
            vm.prank(operator);
            try escrow.close(items[i].terms, items[i].stoppedAt, items[i].creditSecs) {}
            catch (bytes memory reason) {
                bytes32 id = escrow.hashTerms(items[i].terms);
                // The errors of the escrow are their selectors.
                // forge-lint: disable-next-line(unsafe-typecast)
                emit IEscrow.Skipped(id, bytes4(reason));
            }
        }
        assertEq(_trace(items), batch, "same events, same storage");
    }

    /// @dev Everything that the calls left behind. A refused single call's event is this test's.
    function _trace(CloseItem[] memory items) private returns (bytes32 trace) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            trace = keccak256(abi.encode(trace, logs[i].topics, logs[i].data));
        }
        for (uint256 i = 0; i < items.length; ++i) {
            trace = keccak256(abi.encode(trace, escrow.rental(escrow.hashTerms(items[i].terms))));
        }
        address[3] memory accounts = [renter, provider, treasury];
        for (uint256 i = 0; i < accounts.length; ++i) {
            trace = keccak256(
                abi.encode(trace, escrow.balanceOf(accounts[i], address(usdc)), escrow.balanceOf(accounts[i], NATIVE))
            );
        }
    }

    function _next(Random memory random, uint256 below) private pure returns (uint256) {
        random.seed = uint256(keccak256(abi.encode(random.seed)));
        return random.seed % below;
    }
}
