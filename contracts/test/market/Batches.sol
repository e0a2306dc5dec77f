// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow} from "../../src/IEscrow.sol";
import {Book} from "./Book.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice I10: a batch leaves the same state behind, and tells the same, as its single calls one after the other.
abstract contract Batches is Book {
    /// @notice Tells the story of single calls, and the state that they leave behind.
    function trySingles(address by, bytes[] calldata singles, bytes32[] calldata ids) external {
        bytes memory story;
        for (uint256 i = 0; i < singles.length; ++i) {
            vm.recordLogs();
            vm.prank(by);
            (bool success, bytes memory answer) = address(ESCROW).call(singles[i]);
            if (success) {
                story = bytes.concat(story, _story(vm.getRecordedLogs()));
            } else {
                // forge-lint: disable-next-line(unsafe-typecast) -- a selector
                bytes32 reason = bytes32(bytes4(answer));
                story = bytes.concat(story, abi.encode(IEscrow.Skipped.selector, ids[i]), abi.encode(reason));
            }
        }
        _tell(keccak256(abi.encode(story, _stateOf(ids))));
    }

    /// @notice Tells the same of a batch.
    function tryBatch(address by, bytes calldata batch, bytes32[] calldata ids) external {
        vm.recordLogs();
        vm.prank(by);
        (bool success,) = address(ESCROW).call(batch);
        assertTrue(success, "a batch failed");
        _tell(keccak256(abi.encode(_story(vm.getRecordedLogs()), _stateOf(ids))));
    }

    function _batch(address by, bytes memory batch, bytes[] memory singles, bytes32[] memory ids) internal {
        bytes32 told = _undone(abi.encodeCall(this.trySingles, (by, singles, ids)));
        bool isSame = told == _undone(abi.encodeCall(this.tryBatch, (by, batch, ids)));
        _hold(10, isSame, "a batch is not the sequence of its single calls");
        _must(by, 0, batch);
        _tidy();
    }

    /// @dev Topics and data of the escrow's events, one after the other.
    function _story(Vm.Log[] memory logs) private view returns (bytes memory story) {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(ESCROW)) continue;
            story = bytes.concat(story, abi.encodePacked(logs[i].topics), logs[i].data);
        }
    }

    function _stateOf(bytes32[] calldata ids) private view returns (bytes32 state) {
        state = keccak256(abi.encode(_worths()));
        for (uint256 i = 0; i < ids.length; ++i) {
            state = keccak256(abi.encode(state, ESCROW.rental(ids[i])));
        }
    }
}
