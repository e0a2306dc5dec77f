// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    Change,
    CloseItem,
    EndSignatures,
    IEscrow,
    Outcome,
    PrepaidItem,
    StartItem,
    Status,
    Terms
} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {HookToken} from "./mocks/HookToken.sol";
import {Reenterer} from "./mocks/Reenterer.sol";

/// @notice A renter that is called while the escrow pays it, or takes from it, calls back: each function turns it away.
/// @dev `Reenterer` refuses the money unless it was turned away by the guard, so a test that ends well proves that it was;
/// `test_Control` shows that it would not end well otherwise.
contract ReentrancyTest is Fixture {
    Reenterer private _attacker;
    HookToken private _hook;

    function setUp() public override {
        super.setUp();
        _attacker = new Reenterer(address(escrow));
        _hook = new HookToken();
        _hook.mint(address(_attacker), 1e12);
        _attacker.approve(_hook);
        vm.deal(address(_attacker), 1 ether);
        _list(address(_hook));
        // So that the operator's functions are reached, too.
        _enact(Change.AddOperator, address(_attacker));
    }

    function test_Control_AnAnsweredCallIsNoticed() public {
        _attacker.arm(abi.encodeCall(escrow.domainSeparator, ()));
        address[2] memory tokens = [NATIVE, address(_hook)];
        for (uint256 i = 0; i < tokens.length; ++i) {
            Terms memory t = _attackersTerms(tokens[i], "control");
            bytes memory input = abi.encodeCall(escrow.lock, (t, DEPOSIT));
            if (tokens[i] == NATIVE) {
                _attacker.run(input, DEPOSIT);
            } else {
                vm.expectRevert(Reenterer.NotTurnedAway.selector);
                _attacker.run(input, 0);
                vm.prank(address(_attacker));
                vm.mockCall(address(_attacker), abi.encodeCall(_attacker.onToken, ()), "");
                escrow.lock(t, DEPOSIT);
                vm.clearMockedCalls();
            }
            vm.prank(operator);
            escrow.cancel(t);
            assertEq(escrow.balanceOf(address(_attacker), tokens[i]), DEPOSIT, "the refund was refused");
        }
    }

    function test_Reenter_NativeRefund_AllEntryPoints() public {
        _refundedWhileCallingBack(NATIVE);
    }

    function test_Reenter_Hook777Token() public {
        _refundedWhileCallingBack(address(_hook));
    }

    /// @dev The hook runs while the deposit is on its way in.
    function test_Reenter_Hook777Token_Lock_AllEntryPoints() public {
        bytes[] memory calls = _everyCall(address(_hook));
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 before = vm.snapshotState();
            Terms memory t = _attackersTerms(address(_hook), "pulled");
            _attacker.arm(calls[i]);
            _attacker.run(abi.encodeCall(escrow.lock, (t, DEPOSIT)), 0);
            _assertStatus(escrow.hashTerms(t), Status.Locked);
            assertEq(_hook.balanceOf(address(escrow)), DEPOSIT, "counted once");
            vm.revertToState(before);
        }
    }

    /// @dev In the middle of a batch, where the fees are not credited yet.
    function test_Reenter_CrossFunction() public {
        bytes[] memory calls = _everyCall(NATIVE);
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 before = vm.snapshotState();
            CloseItem[] memory items = new CloseItem[](2);
            for (uint256 j = 0; j < items.length; ++j) {
                items[j] = CloseItem(_running(NATIVE, bytes32(j)), T0, 0);
            }
            _attacker.arm(calls[i]);
            vm.prank(operator);
            escrow.closeBatch(items, new EndSignatures[](0));
            assertEq(escrow.balanceOf(provider, NATIVE), 1800, "provider");
            assertEq(escrow.balanceOf(treasury, NATIVE), 200, "treasury");
            assertEq(address(escrow).balance, 2000, "held");
            vm.revertToState(before);
        }
    }

    function test_Reenter_Withdraw_AllEntryPoints() public {
        bytes[] memory calls = _everyCall(NATIVE);
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 before = vm.snapshotState();
            Terms memory t = _terms(NATIVE, "earned by the attacker");
            t.provider = address(_attacker);
            _activate(t, DEPOSIT);
            _stop(t, renter);
            uint256 had = address(_attacker).balance;
            _attacker.arm(calls[i]);
            _attacker.run(abi.encodeCall(escrow.withdraw, (NATIVE, address(_attacker), 500)), 0);
            assertEq(address(_attacker).balance, had + 500, "once");
            vm.revertToState(before);
        }
    }

    /// @dev The views that tell of money do not answer while money is moving.
    function test_ReadOnlyReentrancy() public {
        Terms memory t = _running(NATIVE, "running");
        bytes[] memory views = new bytes[](2);
        views[0] = abi.encodeCall(escrow.rental, (escrow.hashTerms(t)));
        views[1] = abi.encodeCall(escrow.balanceOf, (provider, NATIVE));
        for (uint256 i = 0; i < views.length; ++i) {
            uint256 before = vm.snapshotState();
            _attacker.arm(views[i]);
            vm.prank(provider);
            escrow.stop(t);
            assertEq(address(_attacker).balance, 1 ether - 1000, "refunded");
            vm.revertToState(before);
        }
    }

    function _refundedWhileCallingBack(address token) private {
        bytes[] memory calls = _everyCall(token);
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 before = vm.snapshotState();
            Terms memory t = _running(token, "running");
            _attacker.arm(calls[i]);
            bytes32 id = escrow.hashTerms(t);
            vm.expectEmit(address(escrow));
            emit IEscrow.Closed(id, Outcome.StoppedByProvider, 1, 900, 100, DEPOSIT - 1000, true);
            vm.prank(provider);
            escrow.stop(t);
            assertEq(escrow.balanceOf(address(_attacker), token), 0, "pushed, not credited");
            assertEq(escrow.balanceOf(provider, token), 900, "paid once");
            vm.revertToState(before);
        }
    }

    function _attackersTerms(address token, bytes32 orderHash) private view returns (Terms memory t) {
        t = _terms(token, orderHash);
        t.renter = address(_attacker);
    }

    function _running(address token, bytes32 orderHash) private returns (Terms memory t) {
        t = _attackersTerms(token, orderHash);
        _attacker.run(abi.encodeCall(escrow.lock, (t, DEPOSIT)), token == NATIVE ? DEPOSIT : 0);
        _start(t, T0);
    }

    /// @dev Each function that changes a rental or a balance, in its cheapest form: a push has little gas.
    function _everyCall(address token) private view returns (bytes[] memory calls) {
        Terms memory t = _attackersTerms(token, "running");
        EndSignatures memory none;
        bytes memory empty;
        calls = new bytes[](27);
        calls[0] = abi.encodeCall(escrow.lock, (t, DEPOSIT));
        calls[1] = abi.encodeCall(escrow.lockWithPermit, (t, DEPOSIT, T0, 27, 0, 0));
        calls[2] = abi.encodeCall(escrow.lockWithAuthorization, (t, DEPOSIT, 0, T0, empty));
        calls[3] = abi.encodeCall(escrow.lockWithPermit2, (t, DEPOSIT, 0, T0, empty));
        calls[4] = abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, empty));
        calls[5] = abi.encodeCall(escrow.lockBatch, (new PrepaidItem[](0)));
        calls[6] = abi.encodeCall(escrow.topUp, (t, 1));
        calls[7] = abi.encodeCall(escrow.prepay, (address(_attacker), token, 1));
        calls[8] = abi.encodeCall(escrow.start, (t, T0));
        calls[9] = abi.encodeCall(escrow.startBatch, (new StartItem[](0)));
        calls[10] = abi.encodeCall(escrow.stop, (t));
        calls[11] = abi.encodeCall(escrow.contest, (t, 1));
        calls[12] = abi.encodeCall(escrow.close, (t, T0, 0, none));
        calls[13] = abi.encodeCall(escrow.closeBatch, (new CloseItem[](0), new EndSignatures[](0)));
        calls[14] = abi.encodeCall(escrow.closeAgreed, (t, 1, T0, none));
        calls[15] = abi.encodeCall(escrow.dispute, (t));
        calls[16] = abi.encodeCall(escrow.concede, (t));
        calls[17] = abi.encodeCall(escrow.resolve, (t, 0));
        calls[18] = abi.encodeCall(escrow.finalize, (t));
        calls[19] = abi.encodeCall(escrow.finalizeBatch, (new Terms[](0)));
        calls[20] = abi.encodeCall(escrow.cancel, (t));
        calls[21] = abi.encodeCall(escrow.reclaim, (t));
        calls[22] = abi.encodeCall(escrow.release, (t));
        calls[23] = abi.encodeCall(escrow.releaseBatch, (new Terms[](0)));
        calls[24] = abi.encodeCall(escrow.withdraw, (token, address(_attacker), 0));
        calls[25] = abi.encodeCall(escrow.withdrawBySig, (provider, token, address(_attacker), 0, T0, empty));
        // A view that tells of money.
        calls[26] = abi.encodeCall(escrow.balanceOf, (provider, token));
    }
}
