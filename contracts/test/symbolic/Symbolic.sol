// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice The part of forge's and halmos's cheat codes that the proofs use.
interface ISymbolicVm {
    function assume(bool condition) external pure;
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
    function enableSymbolicStorage(address target) external;
    function createCalldata(string calldata contractName) external view returns (bytes memory);
}

/// @notice Proofs, run by `npm run prove`: every argument of a `check_` function stands for all its values, and a proof
/// fails where any of them can make an `assert` fail. Reverting paths prove nothing and are left aside.
abstract contract Symbolic {
    ISymbolicVm internal constant VM = ISymbolicVm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    ISymbolicVm internal constant SVM = ISymbolicVm(0xF3993A62377BCd56AE39D773740A5390411E8BC9);
}
