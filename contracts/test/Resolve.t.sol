// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, EndSignatures, IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Disputed} from "./Disputed.sol";

/// @notice What the arbiter can decide, when, and what comes of its silence.
contract ResolveTest is Disputed {
    function test_Resolve_NotArbiter() public {
        _dispute(renter);
        _dispute(provider);
        address[6] memory others = [owner, guardian, operator, renter, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            _refused(others[i], abi.encodeCall(escrow.resolve, (terms, 0)), IEscrow.NotArbiter.selector);
        }
    }

    function test_Resolve_NotDisputed() public {
        _refusedResolve(100, IEscrow.NotDisputed.selector);
        vm.warp(WINDOW_END + 1);
        _refusedResolve(100, IEscrow.NotDisputed.selector);
    }

    /// @dev While one side can still dispute its part the arbiter waits; with both parts disputed it does not.
    function test_Resolve_WaitsForTheOtherSide_PlusMinusOne() public {
        _dispute(renter);
        vm.warp(WINDOW_END);
        _refusedResolve(100, IEscrow.DisputeWindowOpen.selector);
        uint256 before = vm.snapshotState();
        skip(1);
        _resolve(100);
        _assertBilled(1900);
        vm.revertToState(before);
        _dispute(provider);
        _resolve(100);
        _assertBilled(1900);
    }

    /// @dev Where the other part is empty there is nobody to wait for.
    function test_Resolve_AtOnce_WithOnePart() public {
        _hold(600, 0);
        _dispute(renter);
        _resolve(600);
        assertEq(escrow.balanceOf(provider, address(usdc)), 1_170_000 + 1_260_000, "provider");
        _hold(0, 100);
        _dispute(provider);
        _resolve(0);
        assertEq(escrow.balanceOf(provider, address(usdc)), 1_170_000 + 1_260_000 + 1_800_000, "provider");
    }

    function test_Resolve_Deadline_PlusMinusOne() public {
        _dispute(renter);
        vm.warp(DECIDED_BY + 1);
        _refusedResolve(100, IEscrow.ArbitrationOver.selector);
        vm.warp(DECIDED_BY);
        _resolve(700);
        _assertBilled(1300);
    }

    /// @dev Only what is disputed: the renter's claim, the operator's credit, or both; never a settled second.
    function test_Arbiter_OnlyContested() public {
        uint256 before = vm.snapshotState();
        _dispute(renter);
        vm.warp(WINDOW_END + 1);
        _resolveBetween(100, 700);
        vm.revertToState(before);
        _dispute(provider);
        vm.warp(WINDOW_END + 1);
        _resolveBetween(0, 100);
        vm.revertToState(before);
        _dispute(renter);
        _dispute(provider);
        _resolveBetween(0, 700);
        vm.revertToState(before);
        // Nothing of a rental that waits or runs.
        Terms memory t = _terms(address(usdc), "another");
        _lock(t, DEPOSIT);
        _refused(arbiter, abi.encodeCall(escrow.resolve, (t, 0)), IEscrow.NotContested.selector);
        _start(t, _now());
        skip(1000);
        _refused(arbiter, abi.encodeCall(escrow.resolve, (t, 500)), IEscrow.NotContested.selector);
        _assertStatus(escrow.hashTerms(t), Status.Active);
    }

    /// @dev If the arbiter stays silent the chain's clock decides what is disputed, and what is not goes its way.
    function test_Arbiter_LateDefault() public {
        address[2][4] memory sides =
            [[renter, address(0)], [provider, address(0)], [renter, provider], [provider, renter]];
        // Of the credit, which nobody disputes in the first case, the renter keeps 100 seconds.
        uint32[4] memory toRenter = [uint32(100), 0, 0, 0];
        for (uint256 i = 0; i < sides.length; ++i) {
            uint256 before = vm.snapshotState();
            _dispute(sides[i][0]);
            if (sides[i][1] != address(0)) _dispute(sides[i][1]);
            vm.warp(DECIDED_BY + 1);
            _refusedResolve(toRenter[i], IEscrow.ArbitrationOver.selector);
            _expectEnd(Outcome.Defaulted, toRenter[i]);
            vm.prank(stranger);
            escrow.finalize(terms);
            _assertBilled(2000 - toRenter[i]);
            vm.revertToState(before);
        }
    }

    function test_Arbiter_ContestedByRenter_LateDefault() public {
        Terms memory t = _terms(address(usdc), "contested");
        t.holdback = 600;
        bytes32 contested = _activate(t, DEPOSIT);
        skip(1000);
        vm.prank(renter);
        escrow.contest(t, 600);
        skip(14 days + 1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(contested, Outcome.Defaulted, 1000, 540_000, 60_000, 0, true);
        escrow.finalize(t);
    }

    /// @dev A dispute is the new arbiter's once there is one; without any, the clock's.
    function test_Arbiter_Changed() public {
        _dispute(renter);
        _dispute(provider);
        _enact(Change.SetArbiter, stranger);
        _refusedResolve(100, IEscrow.NotArbiter.selector);
        uint256 before = vm.snapshotState();
        vm.prank(stranger);
        escrow.resolve(terms, 650);
        _assertBilled(1350);
        vm.revertToState(before);
        _enact(Change.SetArbiter, address(0));
        _refused(stranger, abi.encodeCall(escrow.resolve, (terms, 100)), IEscrow.NotArbiter.selector);
        vm.warp(DECIDED_BY + 1);
        escrow.finalize(terms);
        _assertBilled(2000);
    }

    /// @dev Guardian or owner can end an arbiter's power at once: all goes by the clock then.
    function test_Arbiter_Removed() public {
        _dispute(renter);
        _dispute(provider);
        address[2] memory who = [owner, guardian];
        for (uint256 i = 0; i < who.length; ++i) {
            uint256 before = vm.snapshotState();
            vm.expectEmit(address(escrow));
            emit IEscrow.ArbiterSet(address(0));
            vm.prank(who[i]);
            escrow.removeArbiter();
            _refusedResolve(100, IEscrow.NotArbiter.selector);
            vm.warp(DECIDED_BY + 1);
            escrow.finalize(terms);
            _assertBilled(2000);
            vm.revertToState(before);
        }
    }

    function test_Resolve_Twice() public {
        _dispute(renter);
        _dispute(provider);
        _resolve(300);
        _refusedResolve(300, IEscrow.NotContested.selector);
        _assertBilled(1700);
    }

    /// @dev A price and a fee of which nothing comes out even: each payment is what is missing of the whole.
    function test_Resolve_RoundingHostile() public {
        Terms memory t = _terms(address(usdc), "odd");
        (t.pricePerHour, t.feeBps, t.holdback) = (3_601_237, 1234, 600);
        bytes32 odd = _activate(t, 10_000_007);
        skip(1000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Released(odd, 400, 350_761, 49_376);
        escrow.release(t);
        skip(1000);
        uint40 deadline = _now() + 24 hours;
        vm.expectEmit(address(escrow));
        emit IEscrow.Contested(
            odd, Outcome.ClosedByOperator, 1300, 700, 600, deadline, false, 789_210, 111_099, 7_999_320, true
        );
        _close(t, _now(), 100);
        vm.prank(renter);
        escrow.dispute(t);
        vm.prank(provider);
        escrow.dispute(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(odd, Outcome.Resolved, 1777, 418_282, 58_882, 223_077, true);
        vm.prank(arbiter);
        escrow.resolve(t, 223);
        // 1,777 * 3,601,237 / 3,600 is 1,777,610; 12.34 % of that 219,357. Besides there is the other rental of the set-up.
        _assertBalances(1_170_000 + 1_558_253, 130_000 + 219_357, 2_000_000 + 1_777_610);
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000 - 1_777_610, "renter");
    }

    /// @dev Whatever the arbiter decides is what both sides could have agreed on, to the unit.
    function testFuzz_Resolve_IsClosingByAgreement(uint96 price, uint16 feeBps, uint32 toRenter) public {
        Terms memory t = _terms(address(usdc), "fuzz");
        t.pricePerHour = uint96(bound(price, 1, 2 * uint256(PRICE)));
        t.feeBps = uint16(bound(feeBps, 0, 1500));
        t.holdback = 600;
        bytes32 fuzzed = _activate(t, DEPOSIT);
        skip(2000);
        _close(t, _now(), 100);
        vm.prank(renter);
        escrow.dispute(t);
        vm.prank(provider);
        escrow.dispute(t);
        toRenter = uint32(bound(toRenter, 0, 700));
        uint256 before = vm.snapshotState();
        vm.prank(arbiter);
        escrow.resolve(t, toRenter);
        bytes32 resolved = _money(fuzzed);
        vm.revertToState(before);
        bytes32 digest = _agreedDigest(t, 2000 - toRenter, _now());
        EndSignatures memory both =
            EndSignatures(_signature(_key("renter"), digest), _signature(_key("provider"), digest));
        escrow.closeAgreed(t, 2000 - toRenter, _now(), both);
        assertEq(_money(fuzzed), resolved, "the same money");
    }

    function _resolveBetween(uint32 least, uint32 most) private {
        if (least != 0) _refusedResolve(least - 1, IEscrow.ResolutionOutOfRange.selector);
        _refusedResolve(most + 1, IEscrow.ResolutionOutOfRange.selector);
        _refusedResolve(type(uint32).max, IEscrow.ResolutionOutOfRange.selector);
        uint32[3] memory some = [least, (least + most) / 2, most];
        for (uint256 i = 0; i < some.length; ++i) {
            uint256 before = vm.snapshotState();
            _expectEnd(Outcome.Resolved, some[i]);
            _resolve(some[i]);
            _assertBilled(2000 - some[i]);
            vm.revertToState(before);
        }
    }

    function _money(bytes32 which) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                escrow.rental(which),
                usdc.balanceOf(renter),
                escrow.balanceOf(provider, address(usdc)),
                escrow.balanceOf(treasury, address(usdc)),
                usdc.balanceOf(address(escrow))
            )
        );
    }
}
