// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EndSignatures, Rental, Terms} from "../src/IEscrow.sol";
import {Actions, Preview} from "../src/Lens.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What the lens says is what the escrow does.
contract LensTest is Fixture {
    address private _agent = makeAddr("agent");

    function test_Preview_IsWhatStopPays() public {
        Terms memory t = _terms();
        assertEq(lens.preview(t).refund, 0, "not locked");
        _lock(t, DEPOSIT);
        assertEq(lens.preview(t).refund, DEPOSIT, "locked");
        assertEq(lens.preview(t).fundedUntil, 0, "no clock yet");
        _start(t, T0);
        assertEq(lens.preview(t).billedSecs, 1, "at least a second");
        skip(1000);
        escrow.release(t);
        skip(1000);
        _assertPreview(t, 2000, T0 + 10_000);
        skip(20_000);
        _assertPreview(t, 10_000, T0 + 10_000);
        _stop(t, stranger);
        assertEq(abi.encode(lens.preview(t)), abi.encode(0, 0, 0, 0, 0, 0), "closed");
        _assertBalances(9_000_000, 1_000_000, DEPOSIT);
    }

    /// @dev Held seconds go where they go by default, as far as is known.
    function test_Preview_Contested() public {
        Terms memory t = _terms();
        t.holdback = 600;
        _activate(t, DEPOSIT);
        skip(2000);
        _close(t, T0 + 2000, 100);
        _assertPreview(t, 1900, 0);
        vm.prank(renter);
        escrow.dispute(t);
        _assertPreview(t, 1900, 0);
        vm.prank(provider);
        escrow.dispute(t);
        _assertPreview(t, 2000, 0);
        skip(15 days + 1);
        escrow.finalize(t);
        _assertBalances(1_800_000, 200_000, 2_000_000);
    }

    function testFuzz_Preview_IsWhatComes(
        uint96 price,
        uint16 feeBps,
        uint32 secs,
        uint32 credit,
        bool byRenter
    )
        public
    {
        Terms memory t = _terms();
        t.pricePerHour = uint96(bound(price, 1, 2 * uint256(PRICE)));
        t.feeBps = uint16(bound(feeBps, 0, 1500));
        t.holdback = 600;
        _activate(t, DEPOSIT);
        skip(bound(secs, 0, 20_000));
        Preview memory p = lens.preview(t);
        if (byRenter) {
            _stop(t, renter);
        } else {
            _close(t, _now(), uint32(bound(credit, 0, 2000)));
            p = lens.preview(t);
            skip(24 hours + 1);
            (bool finalized,) = address(escrow).call(abi.encodeCall(escrow.finalize, (t)));
            if (!finalized) return;
        }
        _assertBalances(p.net, p.fee, p.gross);
        assertEq(p.net + p.fee, p.gross, "gross");
        assertEq(usdc.balanceOf(renter), 1e12 - DEPOSIT + p.refund, "refund");
    }

    /// @dev Every account's every action at many moments of a rental, tried out.
    function test_Actions_AreWhatSucceeds() public {
        Terms memory t = _terms();
        t.holdback = 600;
        vm.prank(renter);
        escrow.setAgent(_agent, T0 + 16_000);
        _tryAll(t);
        _lock(t, DEPOSIT);
        uint256 locked = vm.snapshotState();
        uint40[5] memory waits = [T0, t.startBy, t.startBy + 10 minutes, t.startBy + 10 minutes + 1, T0 + 1 days];
        for (uint256 i = 0; i < waits.length; ++i) {
            vm.warp(waits[i]);
            _tryAll(t);
        }
        vm.revertToState(locked);
        _start(t, T0);
        uint40[8] memory runs = [T0, T0 + 600, T0 + 601, T0 + 9999, T0 + 10_000, T0 + 10_600, T0 + 10_601, T0 + 16_001];
        for (uint256 i = 0; i < runs.length; ++i) {
            vm.warp(runs[i]);
            _tryAll(t);
        }
        vm.warp(T0 + 5000);
        escrow.release(t);
        _tryAll(t);
        uint256 running = vm.snapshotState();
        vm.prank(renter);
        escrow.contest(t, 5);
        _tryHeld(t);
        vm.revertToState(running);
        uint32[3] memory credits = [uint32(0), 100, 600];
        for (uint256 i = 0; i < credits.length; ++i) {
            if (i == 2) t = _withoutHoldback();
            _close(t, _now(), credits[i]);
            _tryHeld(t);
            vm.revertToState(running);
        }
    }

    function _withoutHoldback() private returns (Terms memory t) {
        t = _terms(address(usdc), "no holdback");
        _activate(t, DEPOSIT);
        skip(1000);
    }

    /// @dev Disputed by nobody, by each, by both; within the window, and the arbiter's time, and past it.
    function _tryHeld(Terms memory t) private {
        uint40 ended = _now();
        for (uint256 i = 0; i < 4; ++i) {
            uint256 before = vm.snapshotState();
            for (uint256 j = 0; j < 2; ++j) {
                if (i != j + 1 && i != 3) continue;
                vm.prank(j == 0 ? renter : provider);
                (bool done,) = address(escrow).call(abi.encodeCall(escrow.dispute, (t)));
                done;
            }
            uint40[6] memory moments = [
                ended, ended + 24 hours, ended + 24 hours + 1, ended + 14 days + 1, ended + 15 days, ended + 15 days + 1
            ];
            for (uint256 j = 0; j < moments.length; ++j) {
                vm.warp(moments[j]);
                _tryAll(t);
            }
            vm.warp(ended);
            vm.revertToState(before);
        }
    }

    function test_Actions_AfterRelease() public {
        Terms memory t = _terms();
        t.holdback = 100;
        _activate(t, DEPOSIT);
        skip(1000);
        escrow.release(t);
        _tryAll(t);
        skip(500);
        _tryAll(t);
    }

    /// @dev To the agent's last second and no longer.
    function test_Actions_AgentExpires() public {
        Terms memory t = _terms();
        vm.prank(renter);
        escrow.setAgent(_agent, T0 + 300);
        _activate(t, DEPOSIT);
        skip(300);
        _tryAll(t);
        skip(1);
        _tryAll(t);
    }

    function _tryAll(Terms memory t) private {
        address[7] memory accounts = [renter, provider, _agent, operator, arbiter, guardian, stranger];
        Rental memory r = escrow.rental(escrow.hashTerms(t));
        uint40 startAt = _now() < t.startBy ? _now() : t.startBy;
        for (uint256 i = 0; i < accounts.length; ++i) {
            Actions memory a = lens.actions(t, accounts[i]);
            _fund(accounts[i], usdc, 1);
            _assertDoes(accounts[i], abi.encodeCall(escrow.topUp, (t, 1)), a.topUp, "topUp");
            _assertDoes(accounts[i], abi.encodeCall(escrow.start, (t, startAt)), a.start, "start");
            _assertDoes(accounts[i], abi.encodeCall(escrow.cancel, (t)), a.cancel, "cancel");
            _assertDoes(accounts[i], abi.encodeCall(escrow.reclaim, (t)), a.reclaim, "reclaim");
            _assertDoes(accounts[i], abi.encodeCall(escrow.stop, (t)), a.stop, "stop");
            bytes memory close = abi.encodeCall(escrow.close, (t, _now(), 0, EndSignatures("", "")));
            _assertDoes(accounts[i], close, a.close, "close");
            _assertDoes(accounts[i], abi.encodeCall(escrow.dispute, (t)), a.dispute, "dispute");
            _assertDoes(accounts[i], abi.encodeCall(escrow.concede, (t)), a.concede, "concede");
            uint32 credit = r.contestedSecs - r.claimSecs;
            _assertDoes(accounts[i], abi.encodeCall(escrow.resolve, (t, credit)), a.resolve, "resolve");
            _assertDoes(accounts[i], abi.encodeCall(escrow.finalize, (t)), a.finalize, "finalize");
            uint32 most = t.holdback == 0 ? 1 : t.holdback;
            _assertDoes(accounts[i], abi.encodeCall(escrow.contest, (t, most)), a.contestSecs != 0, "contest");
            _assertDoes(accounts[i], abi.encodeCall(escrow.contest, (t, t.holdback + 1)), false, "contest more");
            if (a.contestSecs != 0) _assertContests(t, a.contestSecs);
            _assertReleases(t, a.releaseSecs, r.settledSecs);
        }
    }

    function _assertDoes(address from, bytes memory input, bool isPossible, string memory what) private {
        uint256 before = vm.snapshotState();
        vm.prank(from);
        (bool success,) = address(escrow).call(input);
        assertEq(success, isPossible, string.concat(what, " by ", vm.getLabel(from), " at ", vm.toString(_now() - T0)));
        vm.revertToStateAndDelete(before);
    }

    function _assertContests(Terms memory t, uint32 most) private {
        uint256 before = vm.snapshotState();
        vm.prank(renter);
        escrow.contest(t, t.holdback);
        assertEq(escrow.rental(escrow.hashTerms(t)).contestedSecs, most, "the most that can be contested");
        vm.revertToStateAndDelete(before);
    }

    function _assertReleases(Terms memory t, uint32 secs, uint32 settled) private {
        uint256 before = vm.snapshotState();
        (bool success,) = address(escrow).call(abi.encodeCall(escrow.release, (t)));
        assertEq(success, secs != 0, "release");
        if (success) assertEq(escrow.rental(escrow.hashTerms(t)).settledSecs, settled + secs, "released");
        vm.revertToStateAndDelete(before);
    }

    function _assertPreview(Terms memory t, uint256 secs, uint40 fundedUntil) private view {
        bytes memory expected =
            abi.encode(secs, secs * 1000, secs * 900, secs * 100, DEPOSIT - secs * 1000, uint256(fundedUntil));
        assertEq(abi.encode(lens.preview(t)), expected, "preview");
    }
}
