// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow} from "./IEscrow.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title Who may do what, and which tokens are taken
/// @dev None of these calls reads or writes a rental or a balance.
abstract contract Governed is IEscrow, Ownable2Step {
    struct TokenState {
        bool listed;
        bool paused;
    }

    mapping(address account => bool) public override isOperator;
    mapping(address token => TokenState) public override tokenState;
    address public override treasury;
    address public override guardian;

    modifier onlyOperator() {
        _requireOperator();
        _;
    }

    constructor(address owner_, address operator_, address treasury_, address guardian_) Ownable(owner_) {
        _setOperator(operator_, true);
        _setTreasury(treasury_);
        _setGuardian(guardian_);
    }

    /// @inheritdoc IEscrow
    function setOperator(address operator, bool allowed) external override {
        // The guardian only takes the right away: a stolen operator key must not wait for a multisig.
        if (allowed || msg.sender != guardian) _checkOwner();
        _setOperator(operator, allowed);
    }

    /// @inheritdoc IEscrow
    function setTreasury(address newTreasury) external override onlyOwner {
        _setTreasury(newTreasury);
    }

    /// @inheritdoc IEscrow
    function setGuardian(address newGuardian) external override onlyOwner {
        _setGuardian(newGuardian);
    }

    /// @inheritdoc IEscrow
    function listToken(address token, bool listed) external override onlyOwner {
        if (listed && token != address(0) && token.code.length == 0) revert NotAContract();
        tokenState[token].listed = listed;
        emit TokenListed(token, listed);
    }

    /// @inheritdoc IEscrow
    function pauseToken(address token) external override {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardianOrOwner();
        _setPaused(token, true);
    }

    /// @inheritdoc IEscrow
    function unpauseToken(address token) external override onlyOwner {
        _setPaused(token, false);
    }

    /// @notice Refused: a slip here would leave the token list and the operators as they are for ever.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    function _requireOperator() internal view {
        if (!isOperator[msg.sender]) revert NotOperator();
    }

    function _requireOpen(address token) internal view {
        TokenState memory state = tokenState[token];
        if (!state.listed) revert TokenNotListed();
        if (state.paused) revert TokenIsPaused();
    }

    function _setOperator(address operator, bool allowed) private {
        if (operator == address(0)) revert ZeroAddress();
        isOperator[operator] = allowed;
        emit OperatorSet(operator, allowed);
    }

    function _setTreasury(address newTreasury) private {
        if (newTreasury == address(0)) revert ZeroAddress();
        if (newTreasury == address(this)) revert PayeeIsEscrow();
        treasury = newTreasury;
        emit TreasurySet(newTreasury);
    }

    function _setGuardian(address newGuardian) private {
        guardian = newGuardian;
        emit GuardianSet(newGuardian);
    }

    function _setPaused(address token, bool paused) private {
        tokenState[token].paused = paused;
        emit TokenPaused(token, paused);
    }
}
