// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Test} from "forge-std/Test.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @notice Measures whole transactions in two price lists: Ethereum's of Prague, which forge runs, and Polygon's since
/// PIP-88, told from the slots that a transaction touched.
/// @dev Needs forge's `isolate`, where each call from a test is its own transaction.
abstract contract PriceList is Test {
    /// @dev PIP-88: a cold SLOAD costs 5,460 instead of 2,100.
    int256 private constant COLD_LOAD = 3360;
    /// @dev PIP-88: a cold SSTORE's surcharge is 2,940 instead of 2,100 ...
    int256 private constant COLD_STORE = 840;
    /// @dev ... and changing a value that was not 0 costs 5,000 less that surcharge, ...
    int256 private constant CHANGE = -840;
    /// @dev ... so that clearing one refunds 3,960 instead of 4,800.
    int256 private constant CLEAR = 840;

    mapping(address account => mapping(bytes32 slot => bool)) private _touched;
    mapping(address account => mapping(bytes32 slot => bool)) private _changed;

    /// @dev Sends the transaction, which must succeed, and keeps its gas, divided by the `items` of the batch, in both
    /// price lists. Once per test, at its end: recording leaves every slot of later transactions warm.
    function _measure(
        string memory name,
        uint256 items,
        address from,
        address to,
        uint256 value,
        bytes memory input
    )
        internal
    {
        uint256 before = vm.snapshotState();
        uint256 stock = _send(from, to, value, input);
        vm.revertToStateAndDelete(before);
        vm.startStateDiffRecording();
        _send(from, to, value, input);
        uint256 polygon = SafeCast.toUint256(SafeCast.toInt256(stock) + _difference(vm.stopAndReturnStateDiff()));
        vm.snapshotValue("stock", name, stock / items);
        vm.snapshotValue("polygon", name, polygon / items);
    }

    function _send(address from, address to, uint256 value, bytes memory input) private returns (uint256 gas) {
        vm.prank(from);
        (bool success,) = to.call{value: value}(input);
        gas = vm.lastCallGas().gasTotalUsed;
        assertTrue(success, "measured transaction");
    }

    function _difference(VmSafe.AccountAccess[] memory calls) private returns (int256 gas) {
        for (uint256 i = 0; i < calls.length; ++i) {
            for (uint256 j = 0; j < calls[i].storageAccesses.length; ++j) {
                gas += _differenceOf(calls[i].storageAccesses[j]);
            }
        }
    }

    function _differenceOf(VmSafe.StorageAccess memory access) private returns (int256 gas) {
        if (!_touched[access.account][access.slot]) {
            _touched[access.account][access.slot] = true;
            gas = access.isWrite ? COLD_STORE : COLD_LOAD;
        }
        // Of several writes to a slot only the first costs more than a warm access.
        bool changes = access.isWrite && access.previousValue != access.newValue;
        if (!changes || _changed[access.account][access.slot]) return gas;
        _changed[access.account][access.slot] = true;
        if (access.previousValue == 0) return gas;
        gas += CHANGE;
        if (access.newValue == 0) gas += CLEAR;
    }
}
