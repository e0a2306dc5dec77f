// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @notice Writes measured transactions down, with what they find on the chain and what they cost, for
/// `tools/gas-validate` to send the very same to anvil. Only where GAS_RECORDS names a folder.
abstract contract GasRecord is Test {
    struct Measured {
        string name;
        uint256 items;
        address from;
        address to;
        uint256 value;
        bytes input;
        uint256 stock;
        uint256 polygon;
    }

    uint256 private _records;
    mapping(uint256 record => mapping(address account => bool)) private _listed;
    mapping(uint256 record => mapping(address account => mapping(bytes32 slot => bool))) private _slotListed;
    address[] private _accounts;
    bytes[] private _codes;
    bytes32[] private _balances;
    address[] private _slotAccounts;
    bytes32[] private _slotKeys;
    bytes32[] private _slotValues;

    /// @dev Call in the state before the transaction. A slot or account that `calls` lack is empty on anvil, which its
    /// gas then tells.
    function _record(Measured memory m, VmSafe.AccountAccess[] memory calls) internal {
        string memory folder = vm.envOr("GAS_RECORDS", string(""));
        if (bytes(folder).length == 0) return;
        _collect(m, calls);
        vm.serializeString(m.name, "name", m.name);
        vm.serializeUint(m.name, "items", m.items);
        vm.serializeUint(m.name, "time", vm.getBlockTimestamp());
        vm.serializeAddress(m.name, "from", m.from);
        vm.serializeAddress(m.name, "to", m.to);
        vm.serializeBytes32(m.name, "value", bytes32(m.value));
        vm.serializeBytes(m.name, "input", m.input);
        vm.serializeUint(m.name, "stock", m.stock);
        vm.serializeUint(m.name, "polygon", m.polygon);
        vm.serializeAddress(m.name, "accounts", _accounts);
        vm.serializeBytes(m.name, "codes", _codes);
        vm.serializeBytes32(m.name, "balances", _balances);
        vm.serializeAddress(m.name, "slotAccounts", _slotAccounts);
        vm.serializeBytes32(m.name, "slotKeys", _slotKeys);
        string memory json = vm.serializeBytes32(m.name, "slotValues", _slotValues);
        // forge-lint: disable-next-line(unsafe-cheatcode) -- to the folder that the profile allows, if asked
        vm.writeFile(string.concat(folder, "/", vm.toString(keccak256(bytes(m.name))), ".json"), json);
    }

    function _collect(Measured memory m, VmSafe.AccountAccess[] memory calls) private {
        ++_records;
        delete _accounts;
        delete _codes;
        delete _balances;
        delete _slotAccounts;
        delete _slotKeys;
        delete _slotValues;
        _addAccount(m.from);
        for (uint256 i = 0; i < calls.length; ++i) {
            _addAccount(calls[i].account);
            for (uint256 j = 0; j < calls[i].storageAccesses.length; ++j) {
                _addSlot(calls[i].storageAccesses[j].account, calls[i].storageAccesses[j].slot);
            }
        }
    }

    function _addAccount(address account) private {
        if (_listed[_records][account]) return;
        _listed[_records][account] = true;
        _accounts.push(account);
        _codes.push(account.code);
        _balances.push(bytes32(account.balance));
    }

    function _addSlot(address account, bytes32 slot) private {
        if (_slotListed[_records][account][slot]) return;
        _slotListed[_records][account][slot] = true;
        _slotAccounts.push(account);
        _slotKeys.push(slot);
        _slotValues.push(vm.load(account, slot));
    }
}
