// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice Stands for a wrapped coin on local chains. LOCAL CHAINS ONLY: anyone can mint.
contract LocalToken is ERC20 {
    uint8 private immutable _DECIMALS;

    constructor(
        string memory name_,
        string memory symbol_,
        uint8 decimals_,
        address holder,
        uint256 amount
    )
        ERC20(name_, symbol_)
    {
        _DECIMALS = decimals_;
        _mint(holder, amount);
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return _DECIMALS;
    }
}
