// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

interface Hooked {
    function onToken() external;
}

/// @notice Tells sender and recipient of each transfer while it runs, as ERC-777 does. TEST ONLY.
contract HookToken is ERC20 {
    constructor() ERC20("Hook", "HOOK") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        _tell(from);
        _tell(to);
    }

    function _tell(address account) private {
        (bool success,) = account.call(abi.encodeCall(Hooked.onToken, ()));
        // Who does not listen is not told.
        success;
    }
}
