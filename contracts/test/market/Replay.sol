// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, IEscrow, Outcome, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Rebuilds what the escrow stores from its events alone, and the times of their blocks: rentals, balances,
/// nonces, agents, roles, tokens and scheduled changes.
contract Replay {
    struct Agent {
        address key;
        uint40 expiresAt;
    }

    struct Token {
        bool listed;
        bool paused;
    }

    mapping(bytes32 id => Rental) internal _rentals;
    mapping(bytes32 id => Terms) internal _terms;
    mapping(address account => mapping(address token => uint256)) public balanceOf;
    mapping(address account => uint256) public nonces;
    mapping(address account => Agent) public agentOf;
    mapping(address account => bool) public isOperator;
    mapping(address token => Token) public tokenState;
    mapping(Change change => mapping(address subject => uint40)) public readyAt;
    address public treasury;
    address public arbiter;
    address public guardian;
    address public owner;
    address public pendingOwner;

    /// @notice Reads one event of the block at `time`.
    function read(Vm.Log calldata log, uint40 time) external {
        bytes32 topic = log.topics[0];
        if (topic == IEscrow.Locked.selector) _onLocked(log, time);
        else if (topic == IEscrow.ToppedUp.selector) _onToppedUp(log);
        else if (topic == IEscrow.Started.selector) _onStarted(log);
        else if (topic == IEscrow.Released.selector) _onReleased(log, time);
        else if (topic == IEscrow.Contested.selector) _onContested(log, time);
        else if (topic == IEscrow.Disputed.selector) _onDisputed(log);
        else if (topic == IEscrow.Closed.selector) _onClosed(log, time);
        else if (topic == IEscrow.Credited.selector) _onCredited(log);
        else if (topic == IEscrow.Prepaid.selector) _onPrepaid(log);
        else if (topic == IEscrow.Withdrawn.selector) _onWithdrawn(log);
        else if (topic == IEscrow.NonceUsed.selector) nonces[_account(log, 1)] = abi.decode(log.data, (uint256)) + 1;
        else if (topic == IEscrow.AgentSet.selector) _onAgentSet(log);
        else _onGoverned(log, topic);
    }

    function rental(bytes32 id) external view returns (Rental memory) {
        return _rentals[id];
    }

    /// @dev Money that came from or went to somebody's own account; for whoever counts that too.
    function _moved(address account, address token, uint256 amount, bool isIn) internal virtual {}

    /// @dev What one event paid of a rental.
    function _paid(bytes32 id, uint96 net, uint96 fee, uint96 refund, bool isPushed) internal virtual {
        Terms storage t = _terms[id];
        balanceOf[t.provider][t.token] += net;
        balanceOf[treasury][t.token] += fee;
        if (isPushed) _moved(t.renter, t.token, refund, false);
    }

    function _onLocked(Vm.Log calldata log, uint40 time) internal virtual {
        (Terms memory t, uint96 deposit, bool prepaid) = abi.decode(log.data, (Terms, uint96, bool));
        bytes32 id = log.topics[1];
        _terms[id] = t;
        delete _rentals[id];
        _rentals[id].status = Status.Locked;
        _rentals[id].deposit = deposit;
        _rentals[id].since = time;
        if (prepaid) balanceOf[t.renter][t.token] -= deposit;
        else _moved(t.renter, t.token, deposit, true);
    }

    function _onToppedUp(Vm.Log calldata log) internal virtual {
        (address from, uint96 amount, uint96 deposit) = abi.decode(log.data, (address, uint96, uint96));
        _rentals[log.topics[1]].deposit = deposit;
        _moved(from, _terms[log.topics[1]].token, amount, true);
    }

    function _onStarted(Vm.Log calldata log) internal virtual {
        _rentals[log.topics[1]].status = Status.Active;
        _rentals[log.topics[1]].since = abi.decode(log.data, (uint40));
    }

    function _onReleased(Vm.Log calldata log, uint40) internal virtual {
        (uint32 settledSecs, uint96 net, uint96 fee) = abi.decode(log.data, (uint32, uint96, uint96));
        _rentals[log.topics[1]].settledSecs = settledSecs;
        _paid(log.topics[1], net, fee, 0, true);
    }

    function _onContested(Vm.Log calldata log, uint40) internal virtual {
        Rental storage r = _rentals[log.topics[1]];
        r.status = Status.Contested;
        r.since = 0;
        (, r.settledSecs, r.contestedSecs, r.claimSecs, r.deadline, r.renterDisputes,,,,) =
            abi.decode(log.data, (Outcome, uint32, uint32, uint32, uint40, bool, uint96, uint96, uint96, bool));
        (uint96 net, uint96 fee, uint96 refund, bool isPushed) =
            abi.decode(log.data[6 * 32:], (uint96, uint96, uint96, bool));
        _paid(log.topics[1], net, fee, refund, isPushed);
    }

    function _onDisputed(Vm.Log calldata log) internal virtual {
        Rental storage r = _rentals[log.topics[1]];
        if (_account(log, 2) == _terms[log.topics[1]].renter) r.renterDisputes = true;
        else r.providerDisputes = true;
        r.deadline = abi.decode(log.data, (uint40));
    }

    function _onClosed(Vm.Log calldata log, uint40 time) internal virtual {
        bytes32 id = log.topics[1];
        (,, uint96 net, uint96 fee, uint96 refund, bool isPushed) =
            abi.decode(log.data, (Outcome, uint32, uint96, uint96, uint96, bool));
        _paid(id, net, fee, refund, isPushed);
        delete _rentals[id];
        if (time <= _terms[id].startBy) _rentals[id].status = Status.Closed;
    }

    function _onCredited(Vm.Log calldata log) internal virtual {
        balanceOf[_account(log, 1)][_account(log, 2)] += abi.decode(log.data, (uint96));
    }

    function _onPrepaid(Vm.Log calldata log) private {
        (address from, uint96 amount) = abi.decode(log.data, (address, uint96));
        balanceOf[_account(log, 1)][_account(log, 2)] += amount;
        _moved(from, _account(log, 2), amount, true);
    }

    function _onWithdrawn(Vm.Log calldata log) private {
        (address to, uint96 amount) = abi.decode(log.data, (address, uint96));
        balanceOf[_account(log, 1)][_account(log, 2)] -= amount;
        _moved(to, _account(log, 2), amount, false);
    }

    function _onAgentSet(Vm.Log calldata log) private {
        agentOf[_account(log, 1)] = Agent(_account(log, 2), abi.decode(log.data, (uint40)));
    }

    /// @dev A change that is made is no longer scheduled.
    function _onGoverned(Vm.Log calldata log, bytes32 topic) private {
        if (topic == IEscrow.OperatorSet.selector) {
            bool allowed = abi.decode(log.data, (bool));
            isOperator[_account(log, 1)] = allowed;
            if (allowed) delete readyAt[Change.AddOperator][_account(log, 1)];
        } else if (topic == IEscrow.TreasurySet.selector) {
            treasury = _account(log, 1);
            delete readyAt[Change.SetTreasury][treasury];
        } else if (topic == IEscrow.ArbiterSet.selector) {
            arbiter = _account(log, 1);
            delete readyAt[Change.SetArbiter][arbiter];
        } else if (topic == IEscrow.GuardianSet.selector) {
            guardian = _account(log, 1);
            delete readyAt[Change.SetGuardian][guardian];
        } else if (topic == IEscrow.TokenListed.selector) {
            tokenState[_account(log, 1)].listed = true;
            delete readyAt[Change.ListToken][_account(log, 1)];
        } else if (topic == IEscrow.TokenPaused.selector) {
            tokenState[_account(log, 1)].paused = abi.decode(log.data, (bool));
        } else if (topic == IEscrow.ChangeScheduled.selector) {
            readyAt[Change(uint256(log.topics[1]))][_account(log, 2)] = abi.decode(log.data, (uint40));
        } else if (topic == IEscrow.ChangeCancelled.selector) {
            delete readyAt[Change(uint256(log.topics[1]))][_account(log, 2)];
        } else if (topic == Ownable2Step.OwnershipTransferStarted.selector) {
            pendingOwner = _account(log, 2);
        } else if (topic == Ownable.OwnershipTransferred.selector) {
            owner = _account(log, 2);
            delete pendingOwner;
        }
    }

    function _account(Vm.Log calldata log, uint256 topic) internal pure returns (address) {
        return address(uint160(uint256(log.topics[topic])));
    }
}
