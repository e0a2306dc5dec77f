// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {Config} from "../../src/Governed.sol";
import {Terms} from "../../src/IEscrow.sol";
import {Symbolic} from "./Symbolic.sol";

// forge-lint: disable-start(mixed-case-function) -- halmos finds proofs by their names, check_..

/// @notice I12 and the like on the whole contract, from any storage: whatever was called before, with whatever result.
contract AccessProof is Symbolic {
    Escrow private _escrow;

    function setUp() public {
        Config memory config;
        config.owner = address(0xa11);
        config.guardian = address(0xa12);
        config.treasury = address(0xa13);
        config.arbiter = address(0xa14);
        config.operators = new address[](1);
        config.operators[0] = address(0xa15);
        _escrow = new Escrow(config);
        SVM.enableSymbolicStorage(address(_escrow));
    }

    /// @dev No call of the owner or the guardian about roles, tokens and delays, made by anybody, changes any balance.
    function check_Governing_ChangesNoBalance(
        uint8 which,
        address caller,
        uint8 change,
        address subject,
        address account,
        address token
    )
        public
    {
        uint256 before = _escrow.balanceOf(account, token);
        bytes memory data;
        if (which == 0) data = abi.encodeWithSelector(_escrow.scheduleChange.selector, change, subject);
        else if (which == 1) data = abi.encodeWithSelector(_escrow.executeChange.selector, change, subject);
        else if (which == 2) data = abi.encodeWithSelector(_escrow.cancelChange.selector, change, subject);
        else if (which == 3) data = abi.encodeCall(_escrow.removeOperator, (subject));
        else if (which == 4) data = abi.encodeCall(_escrow.pauseToken, (subject));
        else if (which == 5) data = abi.encodeCall(_escrow.unpauseToken, (subject));
        else if (which == 6) data = abi.encodeCall(_escrow.transferOwnership, (subject));
        else if (which == 7) data = abi.encodeCall(_escrow.acceptOwnership, ());
        else data = abi.encodeCall(_escrow.renounceOwnership, ());
        VM.prank(caller);
        (bool success,) = address(_escrow).call(data);
        success;
        assert(_escrow.balanceOf(account, token) == before);
    }

    /// @dev `start` and `cancel` of a rental in the native coin, by anybody. Calls that multiply (`close`, `resolve`) have
    /// too many paths for this; tests and invariants try them.
    function check_StartAndCancel_LowerNoBalance(
        bool starts,
        Terms memory t,
        uint40 moment,
        address caller,
        address account
    )
        public
    {
        t.token = address(0);
        uint256 before = _escrow.balanceOf(account, address(0));
        bytes memory data = starts ? abi.encodeCall(_escrow.start, (t, moment)) : abi.encodeCall(_escrow.cancel, (t));
        VM.prank(caller);
        (bool success,) = address(_escrow).call(data);
        success;
        assert(_escrow.balanceOf(account, address(0)) >= before);
    }

    /// @dev `withdraw` lowers the caller's balance alone.
    function check_Withdraw_TakesFromTheCallerOnly(address caller, address to, uint96 amount, address account) public {
        VM.assume(account != caller);
        uint256 before = _escrow.balanceOf(account, address(0));
        VM.prank(caller);
        (bool success,) = address(_escrow).call(abi.encodeCall(_escrow.withdraw, (address(0), to, amount)));
        success;
        assert(_escrow.balanceOf(account, address(0)) >= before);
    }
}
// forge-lint: disable-end(mixed-case-function)
