// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Rebuilds rentals and balances from the escrow's events alone, and the times of their blocks.
contract Replay {
    mapping(bytes32 id => Rental) private _rentals;
    mapping(bytes32 id => Terms) private _terms;
    mapping(address account => mapping(address token => uint256)) public balanceOf;
    address private immutable TREASURY;

    constructor(address treasury) {
        TREASURY = treasury;
    }

    /// @notice Reads one event of the block at `time`.
    function read(Vm.Log calldata log, uint40 time) external {
        bytes32 topic = log.topics[0];
        if (topic == IEscrow.Locked.selector) _locked(log, time);
        else if (topic == IEscrow.ToppedUp.selector) _toppedUp(log);
        else if (topic == IEscrow.Started.selector) _started(log);
        else if (topic == IEscrow.Released.selector) _released(log);
        else if (topic == IEscrow.Closed.selector) _closed(log, time);
        else if (topic == IEscrow.Credited.selector) _moved(log, true);
        else if (topic == IEscrow.Withdrawn.selector) _moved(log, false);
    }

    function rental(bytes32 id) external view returns (Rental memory) {
        return _rentals[id];
    }

    function _locked(Vm.Log calldata log, uint40 time) private {
        (Terms memory t, uint96 deposit) = abi.decode(log.data, (Terms, uint96));
        _terms[log.topics[1]] = t;
        _rentals[log.topics[1]] = Rental(Status.Locked, deposit, time, 0, 0, 0);
    }

    function _toppedUp(Vm.Log calldata log) private {
        (,, uint96 deposit) = abi.decode(log.data, (address, uint96, uint96));
        _rentals[log.topics[1]].deposit = deposit;
    }

    function _started(Vm.Log calldata log) private {
        _rentals[log.topics[1]].status = Status.Active;
        _rentals[log.topics[1]].since = abi.decode(log.data, (uint40));
    }

    function _released(Vm.Log calldata log) private {
        (uint32 settledSecs, uint96 net, uint96 fee) = abi.decode(log.data, (uint32, uint96, uint96));
        _rentals[log.topics[1]].settledSecs = settledSecs;
        _pay(_terms[log.topics[1]], net, fee);
    }

    function _closed(Vm.Log calldata log, uint40 time) private {
        bytes32 id = log.topics[1];
        (,, uint96 net, uint96 fee,,) = abi.decode(log.data, (Outcome, uint32, uint96, uint96, uint96, bool));
        _pay(_terms[id], net, fee);
        delete _rentals[id];
        if (time <= _terms[id].startBy) _rentals[id].status = Status.Closed;
    }

    function _pay(Terms memory t, uint96 net, uint96 fee) private {
        balanceOf[t.provider][t.token] += net;
        balanceOf[TREASURY][t.token] += fee;
    }

    function _moved(Vm.Log calldata log, bool isIn) private {
        address account = address(uint160(uint256(log.topics[1])));
        address token = address(uint160(uint256(log.topics[2])));
        if (isIn) {
            balanceOf[account][token] += abi.decode(log.data, (uint96));
        } else {
            (, uint96 amount) = abi.decode(log.data, (address, uint96));
            balanceOf[account][token] -= amount;
        }
    }
}
