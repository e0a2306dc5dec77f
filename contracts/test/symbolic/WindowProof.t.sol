// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {Config} from "../../src/Governed.sol";
import {Terms} from "../../src/IEscrow.sol";
import {Symbolic} from "./Symbolic.sol";

// forge-lint: disable-start(mixed-case-function) -- halmos finds proofs by their names, check_..

/// @notice I14 on the whole contract, from any storage, at any time, for any terms: `start` succeeds until
/// `startBy + START_WINDOW` only, `reclaim` after it only.
contract WindowProof is Symbolic {
    Escrow private _escrow;

    function setUp() public {
        Config memory config;
        config.owner = address(0xa11);
        config.treasury = address(0xa13);
        config.operators = new address[](1);
        config.operators[0] = address(0xa15);
        _escrow = new Escrow(config);
        SVM.enableSymbolicStorage(address(_escrow));
    }

    function check_Start_UntilTheWindowEnds(Terms memory t, uint40 startedAt, address caller, uint40 moment) public {
        VM.warp(moment);
        VM.prank(caller);
        _escrow.start(t, startedAt);
        assert(moment <= uint256(t.startBy) + 10 minutes);
        assert(startedAt <= t.startBy && startedAt <= moment);
    }

    function check_Reclaim_AfterTheWindow(Terms memory t, address caller, uint40 moment) public {
        t.token = address(0);
        VM.warp(moment);
        VM.prank(caller);
        _escrow.reclaim(t);
        assert(moment > uint256(t.startBy) + 10 minutes);
    }
}
// forge-lint: disable-end(mixed-case-function)
