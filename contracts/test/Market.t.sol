// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Preview, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Market} from "./market/Market.sol";
import {Replay} from "./market/Replay.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice What holds after any sequence of calls; the handler, `Market`, checks what holds for each single call.
contract MarketTest is Fixture {
    Market private _market;

    function setUp() public override {
        super.setUp();
        _market = new Market(escrow, usdc, owner, operator, treasury);
        targetContract(address(_market));
        bytes4[] memory selectors = new bytes4[](14);
        selectors[0] = Market.open.selector;
        selectors[1] = Market.open.selector;
        selectors[2] = Market.begin.selector;
        selectors[3] = Market.begin.selector;
        selectors[4] = Market.end.selector;
        selectors[5] = Market.release.selector;
        selectors[6] = Market.release.selector;
        selectors[7] = Market.topUp.selector;
        selectors[8] = Market.cancel.selector;
        selectors[9] = Market.withdraw.selector;
        selectors[10] = Market.lockAgain.selector;
        selectors[11] = Market.pause.selector;
        selectors[12] = Market.pass.selector;
        selectors[13] = Market.pass.selector;
        targetSelector(FuzzSelector(address(_market), selectors));
    }

    /// @dev I1: not a unit more, not a unit less.
    function invariant_EscrowHoldsWhatItOwes() public view {
        assertEq(usdc.balanceOf(address(escrow)), _market.owed(address(usdc)), "ERC-20");
        assertEq(address(escrow).balance, _market.owed(NATIVE), "native");
    }

    /// @dev I3, I4, I5 on every live rental.
    function invariant_LiveRentals() public view {
        Terms[] memory live = _market.live();
        for (uint256 i = 0; i < live.length; ++i) {
            bytes32 id = escrow.hashTerms(live[i]);
            Rental memory r = escrow.rental(id);
            Preview memory p = escrow.preview(live[i]);
            assertTrue(r.status == Status.Locked || r.status == Status.Active, "live");
            assertEq(uint256(p.net) + p.fee + p.refund, r.deposit, "conserved");
            assertEq(p.gross, p.net + p.fee, "gross");
            assertEq(p.fee, uint256(p.gross) * live[i].feeBps / 10_000, "fee of the cumulative gross");
            assertEq(r.settledSecs, _market.settledSecs(id), "settled only by release");
            assertEq(r.contestedSecs + r.deadline, 0, "reserved");
        }
    }

    /// @dev The handler reaches what it is for.
    function test_Steered() public {
        _play(1, 1000);
        string[9] memory kinds = ["open", "start", "cancel", "reclaim", "close", "stop", "release", "topUp", "withdraw"];
        for (uint256 i = 0; i < kinds.length; ++i) {
            assertGt(_market.done(kinds[i]), 3, kinds[i]);
        }
        assertGt(escrow.balanceOf(_market.accounts()[2], NATIVE), 0, "a refund was refused");
    }

    /// @dev I8: from wherever a market stands, time alone lets anybody close every rental, and all balances leave.
    /// forge-config: ci.fuzz.runs = 1000
    function testFuzz_EverythingEnds(uint256 seed) public {
        _play(seed, 40);
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        skip(366 days);
        Terms[] memory live = _market.live();
        for (uint256 i = 0; i < live.length; ++i) {
            bool isLocked = escrow.rental(escrow.hashTerms(live[i])).status == Status.Locked;
            vm.prank(stranger);
            if (isLocked) escrow.reclaim(live[i]);
            else escrow.stop(live[i]);
        }
        for (uint256 i = 0; i < _market.accounts().length; ++i) {
            _market.withdraw(i, true);
            _market.withdraw(i, false);
        }
        assertEq(usdc.balanceOf(address(escrow)), 0, "ERC-20");
        assertEq(address(escrow).balance, 0, "native");
    }

    /// @dev I11: events alone rebuild every slot and every balance.
    /// forge-config: ci.fuzz.runs = 1000
    function testFuzz_EventReplay(uint256 seed) public {
        Replay replay = new Replay(treasury);
        vm.recordLogs();
        for (uint256 i = 0; i < 60; ++i) {
            _step(uint256(keccak256(abi.encode(seed, i))));
            Vm.Log[] memory logs = vm.getRecordedLogs();
            for (uint256 j = 0; j < logs.length; ++j) {
                if (logs[j].emitter == address(escrow)) replay.read(logs[j], _now());
            }
        }
        bytes32[] memory ids = _market.ids();
        for (uint256 i = 0; i < ids.length; ++i) {
            assertEq(abi.encode(replay.rental(ids[i])), abi.encode(escrow.rental(ids[i])), "rental");
        }
        address[] memory accounts = _market.accounts();
        for (uint256 i = 0; i < accounts.length; ++i) {
            assertEq(replay.balanceOf(accounts[i], NATIVE), escrow.balanceOf(accounts[i], NATIVE), "native");
            assertEq(
                replay.balanceOf(accounts[i], address(usdc)), escrow.balanceOf(accounts[i], address(usdc)), "ERC-20"
            );
        }
    }

    function _play(uint256 seed, uint256 steps) private {
        for (uint256 i = 0; i < steps; ++i) {
            _step(uint256(keccak256(abi.encode(seed, i))));
        }
    }

    function _step(uint256 seed) private {
        uint256 kind = seed % 14;
        seed /= 14;
        uint256 other = uint256(keccak256(abi.encode(seed)));
        if (kind < 3) _market.open(seed, other, seed >> 64, other >> 64, other >> 32);
        else if (kind < 5) _market.begin(seed, other);
        else if (kind == 5) _market.end(seed, other, other >> 8, other >> 200);
        else if (kind < 8) _market.release(seed);
        else if (kind == 8) _market.topUp(seed, other);
        else if (kind == 9) _market.cancel(seed);
        else if (kind == 10) _market.withdraw(seed, other % 2 == 0);
        else if (kind == 11) _market.pause(seed);
        else _market.pass(seed);
    }
}
