// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract CloseTest is Fixture {
    function test_Close_CreditsOutage() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(2100);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 2000, 1_800_000, 200_000, 8_000_000, true);
        _close(t, T0 + 2050, 50);
        _assertBalances(1_800_000, 200_000, 2_000_000);
        _assertStatus(id, Status.None);
    }

    function test_Close_NotOperator() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        address[5] memory others = [owner, guardian, renter, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.startPrank(others[i]);
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.close(t, T0, 0);
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.closeBatch(new CloseItem[](0));
            vm.stopPrank();
        }
    }

    function test_Stop_FutureOrOld_PlusMinusOne() public {
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

    function test_Close_MinimumOneSecond() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(100);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 1, 900, 100, DEPOSIT - 1000, true);
        _close(t, T0 + 100, type(uint32).max);
    }

    function test_Close_NeverBelowSettled() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        skip(100);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 1000, 0, 0, 9_000_000, true);
        _close(t, T0 + 1100, 600);
        _assertBalances(900_000, 100_000, 1_000_000);
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

    /// @dev The credit is taken off before the bound by the deposit.
    function test_Close_AfterExhaustion() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(20_000);
        uint256 before = vm.snapshotState();
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 10_000, 9_000_000, 1_000_000, 0, true);
        _close(t, T0 + 20_000, 0);
        vm.revertToState(before);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.ClosedByOperator, 9000, 8_100_000, 900_000, 1_000_000, true);
        _close(t, T0 + 20_000, 11_000);
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
        uint256 paid = escrow.balanceOf(provider, address(usdc)) + escrow.balanceOf(treasury, address(usdc));
        assertEq(paid, usdc.balanceOf(address(escrow)), "the escrow holds what is owed");
        assertEq(usdc.balanceOf(renter), renterHad - paid, "the renter has the rest");
        assertLe(paid, deposit, "never above the deposit");
    }

    function _expectRevert(Terms memory t, uint40 stoppedAt, uint32 creditSecs, bytes4 error_) private {
        vm.prank(operator);
        vm.expectRevert(error_);
        escrow.close(t, stoppedAt, creditSecs);
    }
}
