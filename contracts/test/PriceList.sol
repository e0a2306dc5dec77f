// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {GasRecord} from "./GasRecord.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @notice Measures whole transactions in two price lists: Ethereum's of Prague, which forge runs, and Polygon's since
/// PIP-88, told from the slots that a transaction touched. docs/GAS.md says how this is checked.
/// @dev Needs forge's `isolate`, where each call from a test is its own transaction.
abstract contract PriceList is GasRecord {
    /// @dev What tells one price list from the other.
    struct Prices {
        uint256 coldLoad;
        uint256 coldStore;
    }

    /// @dev What storage costs in a transaction, and what of it comes back.
    struct Storage {
        uint256 cost;
        uint256 refunds;
        uint256 refundsUndone;
    }

    struct Seen {
        bool touched;
        bytes32 original;
    }

    uint256 private constant WARM = 100;
    uint256 private constant SET = 20_000;
    /// @dev Of a cold slot's first change, surcharge included, where it was not 0.
    uint256 private constant CHANGE_COLD = 5000;
    uint256 private constant ACCESS_LIST_KEY = 1900;
    uint256 private constant CALLDATA_FLOOR = 10;
    uint256 private constant REFUND_QUOTIENT = 5;

    uint256 private _transactions;
    mapping(uint256 transaction => mapping(address account => mapping(bytes32 slot => Seen))) private _seen;

    /// @dev Sends the transaction, which must succeed, and keeps its gas, divided by the `items` of the batch, in both
    /// price lists. Once per test.
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
        (uint256 stock, uint256 polygon) = _gasOf(name, items, from, to, value, input);
        vm.snapshotValue("stock", name, stock / items);
        vm.snapshotValue("polygon", name, polygon / items);
    }

    /// @dev Sends the transaction, which must succeed. Once per test: recording leaves the slots of later transactions
    /// warm, for all that the state is taken back.
    /// @return stock The whole transaction's gas in Prague's price list.
    /// @return polygon And in Polygon's.
    function _gasOf(
        string memory name,
        uint256 items,
        address from,
        address to,
        uint256 value,
        bytes memory input
    )
        internal
        returns (uint256 stock, uint256 polygon)
    {
        uint256 before = vm.snapshotState();
        VmSafe.Gas memory gas = _send(from, to, value, input);
        vm.revertToState(before);
        vm.startStateDiffRecording();
        _send(from, to, value, input);
        VmSafe.AccountAccess[] memory calls = vm.stopAndReturnStateDiff();
        vm.revertToState(before);
        stock = gas.gasTotalUsed;
        polygon = _inPolygonsPrices(gas, calls, input);
        _record(Measured(name, items, from, to, value, input, stock, polygon), calls);
        vm.revertToStateAndDelete(before);
        _send(from, to, value, input);
    }

    function _send(address from, address to, uint256 value, bytes memory input) private returns (VmSafe.Gas memory) {
        vm.prank(from);
        (bool success,) = to.call{value: value}(input);
        assertTrue(success, "measured transaction");
        return vm.lastCallGas();
    }

    function _inPolygonsPrices(
        VmSafe.Gas memory gas,
        VmSafe.AccountAccess[] memory calls,
        bytes memory input
    )
        private
        returns (uint256)
    {
        Storage memory stock = _price(calls, Prices({coldLoad: 2100, coldStore: 2100}));
        Storage memory polygon = _price(calls, Prices({coldLoad: 5460, coldStore: 2940}));
        uint256 floor = _floor(input);
        // Where the floor of EIP-7623 decides, forge does not tell what was used below it.
        assertGt(gas.gasTotalUsed, floor, "calldata floor");
        uint256 gross = gas.gasTotalUsed + SafeCast.toUint256(gas.gasRefunded);
        assertEq(_refund(stock, gross), SafeCast.toUint256(gas.gasRefunded), "refund told from the slots");

        gross = gross - stock.cost + polygon.cost;
        return Math.max(gross - _refund(polygon, gross), floor);
    }

    /// @dev EIP-3529: at most a fifth of what was used comes back.
    function _refund(Storage memory s, uint256 gross) private pure returns (uint256) {
        return Math.min(s.refunds - s.refundsUndone, gross / REFUND_QUOTIENT);
    }

    function _floor(bytes memory input) private pure returns (uint256) {
        uint256 tokens;
        for (uint256 i = 0; i < input.length; ++i) {
            tokens += input[i] == 0 ? 1 : 4;
        }
        return 21_000 + tokens * CALLDATA_FLOOR;
    }

    function _price(VmSafe.AccountAccess[] memory calls, Prices memory prices) private returns (Storage memory s) {
        ++_transactions;
        for (uint256 i = 0; i < calls.length; ++i) {
            // A call that fails makes its slots cold again and takes its refunds back: not modelled.
            assertFalse(calls[i].reverted, "a call within the measured transaction failed");
            for (uint256 j = 0; j < calls[i].storageAccesses.length; ++j) {
                _add(s, calls[i].storageAccesses[j], prices);
            }
        }
    }

    /// @dev EIP-2200, 2929 and 3529, where PIP-88 differs in the two surcharges alone.
    function _add(Storage memory s, VmSafe.StorageAccess memory access, Prices memory prices) private {
        Seen storage slot = _seen[_transactions][access.account][access.slot];
        bool cold = !slot.touched;
        if (cold) (slot.touched, slot.original) = (true, access.previousValue);
        if (!access.isWrite) {
            s.cost += cold ? prices.coldLoad : WARM;
            return;
        }
        if (cold) s.cost += prices.coldStore;
        uint256 change = CHANGE_COLD - prices.coldStore;
        bytes32 original = slot.original;
        if (access.previousValue == access.newValue) {
            s.cost += WARM;
        } else if (access.previousValue == original) {
            s.cost += original == 0 ? SET : change;
            if (original != 0 && access.newValue == 0) s.refunds += change + ACCESS_LIST_KEY;
        } else {
            s.cost += WARM;
            if (original != 0 && access.previousValue == 0) s.refundsUndone += change + ACCESS_LIST_KEY;
            else if (original != 0 && access.newValue == 0) s.refunds += change + ACCESS_LIST_KEY;
            if (access.newValue == original) s.refunds += (original == 0 ? SET : change) - WARM;
        }
    }
}
