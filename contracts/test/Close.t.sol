// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Outcome, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";

contract CloseTest is Fixture {
    function test_Close() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(2100);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 2050, 1_845_000, 205_000, 7_950_000, true);
        _close(t, T0 + 2050, 0);
        _assertBalances(1_845_000, 205_000, 2_050_000);
        _assertStatus(id, Status.None);
    }

    /// @dev A credit is held for the provider to dispute, and is the renter's after that.
    function test_Close_CreditsOutage() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(2100);
        _expectHeld(id, 2000, 50, 0, 1_800_000, 200_000, 7_950_000);
        _close(t, T0 + 2050, 50);
        _assertBalances(1_800_000, 200_000, 2_050_000);
        skip(24 hours + 1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Undisputed, 2000, 0, 0, 50_000, true);
        escrow.finalize(t);
        _assertBalances(1_800_000, 200_000, 2_000_000);
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000, "renter");
        _assertStatus(id, Status.None);
    }

    /// @dev With a holdback the last billed seconds are held besides, before the credited ones.
    function test_Close_HoldsClaimAndCredit() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(2100);
        _expectHeld(id, 1400, 650, 600, 1_260_000, 140_000, 7_950_000);
        _close(t, T0 + 2050, 50);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1400, 650, 600, T0 + 2100 + 24 hours, false, false)),
            "stored"
        );
        skip(24 hours + 1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Undisputed, 2000, 540_000, 60_000, 50_000, true);
        escrow.finalize(t);
        _assertBalances(1_800_000, 200_000, 2_000_000);
    }

    /// @dev `refundPushed` tells a refund that the renter took from one that waits for it.
    function test_Close_RefusedRefund_IsCredited() public {
        Wallet wallet = new Wallet();
        vm.deal(address(wallet), DEPOSIT);
        Terms memory t = _terms(NATIVE, "native");
        t.renter = address(wallet);
        wallet.lock(escrow, t, DEPOSIT);
        _start(t, T0);
        wallet.setManner(Wallet.Manner.Refuses);
        skip(1000);
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Credited(address(wallet), NATIVE, 9_000_000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 1000, 900_000, 100_000, 9_000_000, false);
        _close(t, T0 + 1000, 0);
        assertEq(escrow.balanceOf(address(wallet), NATIVE), 9_000_000, "credited");
    }

    function test_Close_NotOperator() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        address[5] memory others = [owner, guardian, renter, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.startPrank(others[i]);
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.close(t, T0, 0, EndSignatures("", ""));
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.closeBatch(new CloseItem[](0), new EndSignatures[](0));
            vm.stopPrank();
        }
    }

    function test_Stop_FutureOrOld() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(2000);
        _expectRevert(t, T0 + 2001, 0, IEscrow.StopOutOfWindow.selector);
        _expectRevert(t, T0 + 1399, 0, IEscrow.StopOutOfWindow.selector);
        uint256 before = vm.snapshotState();
        _close(t, T0 + 2000, 0);
        assertEq(escrow.balanceOf(provider, address(usdc)), 1_800_000, "now");
        vm.revertToState(before);
        _close(t, T0 + 1400, 0);
        assertEq(escrow.balanceOf(provider, address(usdc)), 1_260_000, "10 minutes ago");
    }

    function test_Close_BeforeStart_PlusMinusOne() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        skip(100);
        _start(t, T0 + 100);
        skip(100);
        _expectRevert(t, T0 + 99, 0, IEscrow.StopOutOfWindow.selector);
        _close(t, T0 + 100, 0);
        _assertBalances(900, 100, 1000);
    }

    function test_MinimumOneSecond() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(100);
        uint256 before = vm.snapshotState();
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 1, 900, 100, DEPOSIT - 1000, true);
        _close(t, T0, 0);
        vm.revertToState(before);
        _expectHeld(id, 1, 99, 0, 900, 100, DEPOSIT - 100_000);
        _close(t, T0 + 100, type(uint32).max);
    }

    /// @dev The smallest credit and the smallest holdback count.
    function test_Close_OneSecond() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(100);
        uint256 before = vm.snapshotState();
        _expectHeld(id, 99, 1, 0, 89_100, 9900, DEPOSIT - 100_000);
        _close(t, T0 + 100, 1);
        vm.revertToState(before);
        t.holdback = 1;
        id = _activate(t, DEPOSIT);
        skip(100);
        _expectHeld(id, 99, 1, 1, 89_100, 9900, DEPOSIT - 100_000);
        _close(t, T0 + 200, 0);
    }

    function test_Close_NeverBelowSettled() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        skip(100);
        _expectHeld(id, 1000, 100, 0, 0, 0, 8_900_000);
        _close(t, T0 + 1100, 600);
        _assertBalances(900_000, 100_000, 1_100_000);
    }

    /// @dev A stop dated before what was released bills what was released.
    function test_Close_DatedBeforeRelease() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        _close(t, T0 + 500, 0);
        _assertBalances(900_000, 100_000, 1_000_000);
    }

    /// @dev The credit is taken off what is billed, not off what lies beyond the deposit.
    function test_Close_AfterExhaustion() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(20_000);
        uint256 before = vm.snapshotState();
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 10_000, 9_000_000, 1_000_000, 0, true);
        _close(t, T0 + 20_000, 0);
        vm.revertToState(before);
        _expectHeld(id, 9000, 1000, 0, 8_100_000, 900_000, 0);
        _close(t, T0 + 20_000, 1000);
    }

    function test_Close_NotActive() public {
        Terms memory t = _terms();
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
        _lock(t, DEPOSIT);
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
        _start(t, T0);
        _close(t, T0, 0);
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
    }

    /// @dev Any change of the terms names another rental.
    function test_Close_OtherTerms() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        t.pricePerHour += 1;
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
        t = _terms();
        t.provider = stranger;
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
        t = _terms();
        t.feeBps = 0;
        _expectRevert(t, T0, 0, IEscrow.NotActive.selector);
    }

    function testFuzz_Close_Conserves(uint96 deposit, uint96 price, uint16 feeBps, uint32 secs, uint32 credit) public {
        Terms memory t = _terms();
        deposit = uint96(bound(deposit, 1, type(uint96).max));
        t.pricePerHour = uint96(bound(price, 1, type(uint96).max));
        t.feeBps = uint16(bound(feeBps, 0, 1500));
        usdc.mint(renter, deposit);
        uint256 renterHad = usdc.balanceOf(renter);
        _activate(t, deposit);
        skip(secs);
        (bool releasedSome,) = address(escrow).call(abi.encodeCall(escrow.release, (t)));
        skip(credit % 1000);
        releasedSome;
        _close(t, _now(), credit);
        skip(24 hours + 1);
        (bool finalized,) = address(escrow).call(abi.encodeCall(escrow.finalize, (t)));
        finalized;
        _assertEnded(escrow.hashTerms(t));
        uint256 paid = escrow.balanceOf(provider, address(usdc)) + escrow.balanceOf(treasury, address(usdc));
        assertEq(paid, usdc.balanceOf(address(escrow)), "the escrow holds what is owed");
        assertEq(usdc.balanceOf(renter), renterHad - paid, "the renter has the rest");
        assertLe(paid, deposit, "never above the deposit");
    }

    function _expectHeld(
        bytes32 id,
        uint32 settled,
        uint32 contested,
        uint32 claim,
        uint96 net,
        uint96 fee,
        uint96 refund
    )
        private
    {
        uint40 deadline = _now() + 24 hours;
        vm.expectEmit(address(escrow));
        emit IEscrow.Contested(
            id, Outcome.ClosedByOperator, settled, contested, claim, deadline, false, net, fee, refund, true
        );
    }

    function _expectRevert(Terms memory t, uint40 stoppedAt, uint32 creditSecs, bytes4 error_) private {
        vm.prank(operator);
        vm.expectRevert(error_);
        escrow.close(t, stoppedAt, creditSecs, EndSignatures("", ""));
    }
}
