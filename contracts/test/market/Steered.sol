// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change} from "../../src/IEscrow.sol";
import {Fixture} from "../Fixture.sol";
import {Permit2Code} from "../mocks/Permit2Code.sol";
import {Market} from "./Market.sol";
import {Tally} from "./Tally.sol";
import {Vm} from "forge-std/Vm.sol";
import {console} from "forge-std/console.sol";

/// @notice A market on a new escrow, of which the tally has read every event, and the handler's functions to call.
abstract contract Steered is Fixture {
    /// @dev Of a handler's calls, at least so many of a hundred must do what they are for.
    uint256 private constant USEFUL_PERCENT = 30;
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    Market internal market;
    Tally internal tally;

    function setUp() public virtual override {
        tally = new Tally();
        vm.recordLogs();
        super.setUp();
        _enact(Change.AddOperator, makeAddr("operator 1"));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(escrow)) tally.read(logs[i], _now());
        }
        _deployPermit2();
        market = new Market(escrow, usdc, tally);
    }

    /// @dev What the handler does, once each but for what the others need most.
    function _selectors() internal view returns (bytes4[] memory some) {
        bytes4[42] memory all = [
            market.lock.selector,
            market.lockWithPermit.selector,
            market.lockWithAuthorization.selector,
            market.prepay.selector,
            market.lockPrepaid.selector,
            market.lockBatch.selector,
            market.topUp.selector,
            market.lockAgain.selector,
            market.start.selector,
            market.start.selector,
            market.start.selector,
            market.startBatch.selector,
            market.cancel.selector,
            market.reclaim.selector,
            market.release.selector,
            market.releaseBatch.selector,
            market.stop.selector,
            market.close.selector,
            market.closeBatch.selector,
            market.closeAgreed.selector,
            market.contest.selector,
            market.dispute.selector,
            market.concede.selector,
            market.resolve.selector,
            market.finalize.selector,
            market.finalizeBatch.selector,
            market.withdraw.selector,
            market.withdrawBySig.selector,
            market.setAgent.selector,
            market.pause.selector,
            market.unpause.selector,
            market.schedule.selector,
            market.execute.selector,
            market.removeOperator.selector,
            market.pass.selector,
            market.refuseEntry.selector,
            market.refuseLocked.selector,
            market.refuseActive.selector,
            market.refuseContested.selector,
            market.refuseOffice.selector,
            market.probeEverythingEnds.selector,
            market.probeWindows.selector
        ];
        some = new bytes4[](45);
        for (uint256 i = 0; i < 42; ++i) {
            some[i] = all[i];
        }
        some[42] = market.cancelChange.selector;
        some[43] = market.removeArbiter.selector;
        some[44] = market.lockWithPermit2.selector;
    }

    /// @dev One call of the handler, by a seed alone.
    function _step(uint256 seed) internal {
        bytes4[] memory selectors = _selectors();
        bytes memory data =
            abi.encodeWithSelector(selectors[seed % selectors.length], uint128(uint256(keccak256(abi.encode(seed)))));
        (bool success, bytes memory answer) = address(market).call(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    function _deployPermit2() private {
        vm.etch(Permit2Code.DEPLOYER, Permit2Code.DEPLOYER_CODE);
        (bool success,) = Permit2Code.DEPLOYER.call(bytes.concat(Permit2Code.SALT, Permit2Code.CREATION_CODE));
        assertTrue(success && PERMIT2.code.length != 0, "Permit2");
    }

    function _assertHolds(uint256 invariant) internal view {
        assertEq(market.faults(invariant), "", "seen by the handler");
        assertEq(tally.faults(invariant), "", "seen by the tally");
    }

    /// @dev Calls and useful calls of each of the handler's functions called at least `least` times.
    function _summarize(uint256 least) internal view {
        string[] memory kinds = market.kinds();
        for (uint256 i = 0; i < kinds.length; ++i) {
            (uint256 calls, uint256 useful) = market.counts(kinds[i]);
            if (calls < least) continue;
            uint256 percent = useful * 100 / calls;
            console.log("%s: %d calls, %d useful", kinds[i], calls, useful);
            assertGe(percent, USEFUL_PERCENT, string.concat(kinds[i], ": hardly ever of use"));
        }
    }
}
